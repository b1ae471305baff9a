"""What is promised when things break, each as a drill with figures to reach: `make reliability`.

A drill is a file with `run(folder, seed, share) -> dict` of metrics and `EXPECTED`, the bounds that
they must keep, or `holds(metrics)` if it is not a bound on each. `share` of 1 is the long form; the
default suite runs a small share of each (test_short_forms.py). Real servers, processes and signals.

__main__.py  which drills there are, the table, var/reports/reliability.json
api.py       the API under a steady client
d2.py d5.py  the online store is emptied; Feast's registry is lost, spoiled, stuck
c1.py        kill -9 of the stream worker (pipelines/bench_crash.py)
c5.py c6.py  records gone before they were read; poison among good records
c7.py        clocks that jump, summer time, leap seconds
s10.py       a user is deleted
"""
