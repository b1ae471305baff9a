"""Opens Spark: local by default, the same code with another master on a cluster."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

JAVA_NEEDED = 17
DRIVER_MEMORY = "1g"
"""A day's sums of a few hundred thousand events need far less; the heap is not taken up front."""

LOCAL_MASTER = "local[2]"
"""Two cores of this machine."""

EVERYWHERE = {"spark.sql.session.timeZone": "UTC"}
"""What the values depend on."""

LOCAL = {
    "spark.sql.shuffle.partitions": "2",  # the default of 200 is 200 tasks for a few thousand rows
    "spark.driver.memory": DRIVER_MEMORY,
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    # The job lasts seconds and most of its code runs once: compiling it well costs more than it
    # saves, and a parallel collector has no cores to run on. On a cluster leave both alone.
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
    f" -Dlog4j2.configurationFile={Path(__file__).with_name('log4j2.properties').as_uri()}",
}


def java_version() -> int | None:
    """Major version of the Java that Spark would start; None where there is none."""
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if not java:
        return None
    try:
        told = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r'version "(?:1\.)?(\d+)', told.stderr + told.stdout)
    return int(found[1]) if found else None


@contextmanager
def open_spark(master: str = LOCAL_MASTER) -> Iterator[Any]:
    """A Spark session; one that is open already is used and left open.

    Args:
        master: local, with the settings of LOCAL; another one is a cluster, which has its own.
    """
    from pyspark.sql import SparkSession

    if (active := SparkSession.getActiveSession()) is not None:
        yield active
        return
    builder = SparkSession.builder.appName("shortlist").master(master)
    settings = EVERYWHERE | LOCAL if master.startswith("local") else EVERYWHERE
    for key, value in settings.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    try:
        yield session
    finally:
        session.stop()
