"""A simulated shop whose truth is known: what its users like, and how they look at a list.

In: a configuration (scale, seed, family, preset) and the moment at which history ends. Out: a logged
past as any platform would have it (`World.history`), a day in this process (`play_day`), and users
who visit the real HTTP API (`visit`). docs/world.md is its card.
May be imported by: the command line, the run, the demo, the loop and experiments. Never by what learns.
Read:

    config       every parameter, range and reason; the presets
    titles       words that make items readable
    truth        the hidden arrays, and the only file that reads or writes them
    population   draws items and users, also those to come
    draws        uniforms by key: the same luck for every policy
    timeline     what changes, and when
    state        what users remember; nights pass
    planning     who comes when
    families     three shapes of utility, three ways to look at a list
    numbers      between chances and logits
    behaviour    attraction, satisfaction, and what follows a click
    play         a day in waves, in this process
    happenings   from reactions to events, and what goes wrong on the way
    history      slates of a logging policy, and what came of them
    generate     make_world, open_world
    crowd        visitors' connections, clock and memory
    visit        one simulated day against the API
    facts        what published logs look like
    logs         what they are measured on
    examination  how far down people look, told from clicks
    check        whether the world keeps its promises

Interview: How do you know that your offline metrics mean anything?
    Let a population whose tastes you wrote down use the system, and compare. Bias corrections,
    intervals and alarms can then be graded against the truth instead of against themselves.
    Trade-off: it proves that a method works in this world, not in yours; the world must not be
    made of the model's own formula, or the model wins by construction.
    Shown by: tests/pipelines/test_world.py::test_a_list_by_true_attraction_beats_popularity_clearly
"""
