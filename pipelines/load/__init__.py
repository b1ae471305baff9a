"""Load on a running API, measured so that a slow server cannot hide it.

In: an address, a rate, seconds. Out: latency, errors, rungs, time by stage and CPU by request.
May be imported by: the command line.
Read: arrivals (what is sent when), generator (sending it), latency (what was measured, and whether
it may be believed), budget, target (whom), embedded (a stack of its own), run, tell, plot.
"""
