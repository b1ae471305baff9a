"""A real Kafka broker from its published jars: fetched once, one KRaft node, loopback only.

The jars come through Ivy, which Spark brings along, so Java is all that has to be there. They are
kept under var/local/ and shared by every workspace.
"""

import fcntl
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.local.process import child, free_port, wait_for_port
from infra.settings import PROJECT
from infra.spark import JAVA_NEEDED, java_version

VERSION = "4.1.1"
LOG4J = "2.24.3"
"""The broker writes its log through an interface and brings no writer: without one it ends silently."""

JARS = PROJECT / "var" / "local" / f"kafka-{VERSION}-log4j-{LOG4J}"
HEAP = "384m"
START_SECONDS = 60.0
FETCH_SECONDS = 600.0


class Absent(Exception):
    """The server cannot be started here; the message says what is missing."""


def fetch() -> Path:
    """The folder with the broker's jars; they are fetched when it is not there (about 43 MB).

    Raises:
        Absent: no Java, or the jars could not be fetched.
    """
    if JARS.is_dir():
        return JARS
    if (java_version() or 0) < JAVA_NEEDED:
        raise Absent(
            f"Kafka: no Java {JAVA_NEEDED}; on Debian: apt install openjdk-17-jre-headless"
        )
    JARS.parent.mkdir(parents=True, exist_ok=True)
    with (JARS.parent / "kafka.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two that find no jars, one fetches
        if not JARS.is_dir():
            part = JARS.with_name(f".{JARS.name}")
            shutil.rmtree(part, ignore_errors=True)
            _retrieve(part)
            part.rename(JARS)
    return JARS


def prepare(folder: Path, port: int, controller_port: int, partitions: int) -> list[str]:
    """Write the broker's settings and format its storage; returns the command that runs it.

    Args:
        folder: gets server.properties and the data; what is there already is kept.
        port: for clients, on loopback.
        controller_port: for the broker itself, on loopback.
        partitions: of a topic that names no number.
    """
    jars = fetch()
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "server.properties"
    settings.write_text(
        "\n".join(
            [
                "node.id=1",
                "process.roles=broker,controller",
                f"listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
                f"advertised.listeners=PLAINTEXT://127.0.0.1:{port}",
                "controller.listener.names=CONTROLLER",
                "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
                f"controller.quorum.voters=1@127.0.0.1:{controller_port}",
                f"log.dirs={folder / 'data'}",
                f"num.partitions={partitions}",
                "auto.create.topics.enable=false",
                "offsets.topic.replication.factor=1",
                "offsets.topic.num.partitions=4",
                "transaction.state.log.replication.factor=1",
                "transaction.state.log.min.isr=1",
                "group.initial.rebalance.delay.ms=0",
                "log.retention.ms=-1",  # the log is what everything else is rebuilt from
            ]
        )
        + "\n"
    )
    java = ["java", f"-Xmx{HEAP}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    java += [f"-Dlog4j2.configurationFile={Path(__file__).with_name('kafka-log4j2.properties')}"]
    java += ["-cp", f"{jars}/*"]
    if not (folder / "data" / "meta.properties").exists():
        command = [*java, "kafka.tools.StorageTool", "format", "--ignore-formatted"]
        command += ["-t", "c2hvcnRsaXN0LWxvY2FsMQ", "-c", str(settings)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    return [*java, "kafka.Kafka", str(settings)]


@contextmanager
def broker(folder: Path, partitions: int = 4) -> Iterator[str]:
    """A broker that listens; yields its address, and stops it at the end. For tests.

    Raises:
        Absent: it cannot run here.
    """
    port, controller_port = free_port(), free_port()
    command = prepare(folder, port, controller_port, partitions)
    with child(command, folder / "kafka.log") as process:
        wait_for_port("127.0.0.1", port, process, folder / "kafka.log", START_SECONDS)
        yield f"127.0.0.1:{port}"


_WANTED = """<ivy-module version="2.0">
 <info organisation="shortlist" module="broker"/>
 <dependencies>
  <dependency org="org.apache.kafka" name="kafka_2.13" rev="{version}" conf="default"/>
  <dependency org="org.apache.logging.log4j" name="log4j-slf4j-impl" rev="{log4j}" conf="default"/>
 </dependencies>
</ivy-module>
"""


def _retrieve(folder: Path) -> None:
    """Let Ivy resolve the broker and all that it needs into `folder`, checksums checked."""
    import pyspark

    ivy = next((Path(pyspark.__file__).parent / "jars").glob("ivy-*.jar"))
    folder.mkdir()
    wanted = folder / "ivy.xml"
    wanted.write_text(_WANTED.format(version=VERSION, log4j=LOG4J))
    command = ["java", "-cp", str(ivy), "org.apache.ivy.Main", "-cache", str(folder / "cache")]
    command += ["-ivy", str(wanted), "-confs", "default"]
    command += ["-retrieve", f"{folder}/[artifact]-[revision](-[classifier]).[ext]"]
    told = subprocess.run(
        command, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False
    )
    if told.returncode or not list(folder.glob(f"kafka_2.13-{VERSION}.jar")):
        shutil.rmtree(folder, ignore_errors=True)
        last = (told.stdout + told.stderr).strip().splitlines()[-1:]
        raise Absent(f"Kafka: its jars could not be fetched: {' '.join(last) or 'no reason given'}")
    shutil.rmtree(folder / "cache", ignore_errors=True)


if __name__ == "__main__":
    print(fetch())
