"""Claims about recommenders, written down first, measured in worlds whose truth is known, and graded.

In: a card, worlds and seeds. Out: var/reports/experiments/E-xx.json and .html, and, once recorded,
docs/experiments/. May be imported by: the command line. The only part besides the simulation itself
that may open the truth (world.py and line.py do, nobody else).
Read:

    card       what is said before the run
    verdict    interval over seeds, and the rule that grades it
    identity   which results belong to which question
    runner     seed by seed, resumable
    outcome    estimates and verdicts, to JSON and back
    tables, charts, page, publish   what people read after a run
    board      recorded results in docs/experiments/
    world      names in, logs with their truth out
    line       a world's trained line, and days of it under any ranker and any shop
    log, measures, click_models, wishes, groups, staleness, rehearsal, counted   what the experiments share
    e02, e04, e11, e12, e13, e19, e42, e47a, e47b, e47e      cards, and what measures them
    catalogue, own_tables                                    all experiments, with charts and tables
"""
