"""What differs between a laptop and a cluster: settings, paths, the event log, the clock, reports.

In: the environment (`SHORTLIST_*`). Out: opened clients and places.
May be imported by: monitoring, serving, pipelines. Imports nothing of ours.
Read: settings, workspace, clock, event_log, group_commit, kafka_log, spool, clients, redis_store, spark,
local/, logging, reports, admin_token.
"""
