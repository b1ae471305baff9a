"""A Parquet file of the offline store, replaced whole."""

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


@contextmanager
def replaced(path: Path, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    """A writer whose file appears when the block ends well; otherwise the old one stays.

    Args:
        path: the file; its folder is made.
        schema: of every table that is written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with pq.ParquetWriter(part, schema, compression="zstd") as writer:
            yield writer.write_table
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
