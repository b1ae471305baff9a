"""One runnable step per file; the steps own I/O, seeds and the clock.

In: files, the event log, the lake. Out: the lake, features, bundles, reports.
May be imported by: nobody (serving is a sibling, and never imports a step).
Read: cli, demo, run, ingest, validate, build_features, materialize, train_retrieval,
train_ranker, evaluate, promote, stream.
"""
