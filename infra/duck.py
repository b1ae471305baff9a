"""DuckDB with as many threads as everything else here may use."""

import os

import duckdb


def open_duckdb() -> duckdb.DuckDBPyConnection:
    """A connection in memory.

    OMP_NUM_THREADS is what limits torch, LightGBM and BLAS, and DuckDB does not read it. With one
    thread, sums are taken in one order, so that equal data gives equal bytes.
    """
    connection = duckdb.connect()
    if threads := os.environ.get("OMP_NUM_THREADS"):
        connection.execute(f"SET threads = {int(threads)}")
    return connection
