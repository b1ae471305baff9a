"""A simulated shop whose truth is known: what its users like, and how they look at a list.

In: a scale, a seed, the moment at which history ends. Out: a logged past as any platform would
have it (`World.history`), and users who visit the real HTTP API (`visit`, `live`).
May be imported by: the command line, the run, the demo and experiments. Never by what learns.
Read:

    titles      words that make items readable
    truth       the hidden arrays, and the only file that reads or writes them
    population  draws items and users
    behaviour   attraction, examination, and what follows a click
    planning    who comes when
    history     slates of a logging policy, and the events they led to
    generate    make_world, open_world
    crowd       visitors' connections, clock and memory
    visit       one simulated day against the API
    live        real time against the API, until told to stop

Interview: How do you know that your offline metrics mean anything?
    Let a population whose tastes you wrote down use the system, and compare. Bias corrections,
    intervals and alarms can then be graded against the truth instead of against themselves.
    Trade-off: it proves that a method works in this world, not in yours; the world must not be
    made of the model's own formula, or the model wins by construction.
    Shown by: tests/pipelines/test_world.py::test_a_list_by_true_attraction_beats_popularity_clearly
"""
