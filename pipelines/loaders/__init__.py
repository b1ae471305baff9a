"""Data from elsewhere, brought to the columns of features/schema.py; one source per file.

In: the folder or file of a source. Out: `Tables` with raw values, for pipelines/ingest.py to check.
May be imported by: the command line and the run.
Read: tables, ml_100k, completejourney, trivago, text_rows, own_files.
"""
