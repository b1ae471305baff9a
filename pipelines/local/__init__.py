"""The whole stack without containers, under supervisord: `shortlist up`, `status`, `logs`, `down`.

In: settings. Out: running processes; all that they keep, below <home>/services.
May be imported by: the command line.
Read: places, health, parts, before, up, board, status.
"""
