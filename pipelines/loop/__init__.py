"""The loop, closed: serve, log, react, learn, serve again, for days, beside its twins.

In: families of worlds, seeds, arms, a policy of retraining. Out: each day of each arm as it was seen
and as it truly was, the lift over popularity, the share of what an oracle would earn.
May be imported by: the command line. Opens the world and its truth.
Read:

    shop      what serving does, in this process
    arms      popular, full, oracle
    pending   what users did and nobody has heard of yet
    day       one day of one arm
    wire      the same day over HTTP
    api       the running API and what is said to it
    arrived   whether log, worker and online store have come so far
    morning   what the platform learned in the night
    book      what is written down, and when a day is done
    twin      one arm's life
    plan      what is asked for
    one_world past, first bundle, twins
    run       many worlds, resumable
    shelf     the books of all twins, as frames
    summary   lift, share of the oracle, every measure by day
    answer    the same in words
    charts, elements, page, tell   what people read after a run

Interview: Your model beats popularity offline. Will it online, and for how long?
    Nobody knows before the loop is closed: what the model shows decides what it learns from. So let
    the same people, with the same luck, live once with each policy, and compare what each truly
    earned them, day by day, with what an A/B test would have said.
    Trade-off: twins exist in a simulation only; a real platform has one population, and its
    experiment sees halves of it, with noise.
    Shown by: tests/pipelines/loop/test_loop.py::test_twins_meet_the_same_people_on_the_first_day
"""
