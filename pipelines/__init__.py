"""One runnable step per file; the steps own I/O, seeds and the clock.

In: files, the event log, the lake. Out: the lake, features, bundles, reports.
May be imported by: nobody (serving is a sibling, and never imports a step).
Read: cli, run, demo; for the lake parse, validate, event_ids, catalogue, quarantine, ingest, lake,
loaders/, world/; for features build_features, increments, position_curves, stream_history,
materialize, refresh_hours, stream, lineage, parity; for models past, train_retrieval, ranker_rows,
train_ranker, asked, evaluate, reference, promote, tracking; around
them doctor, serve, check_drift, bench, load/; for the whole stack local/, smoke/; experiments/ grades
claims in the world's truth.
"""
