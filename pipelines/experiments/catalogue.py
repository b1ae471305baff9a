"""All experiments: each a card, what measures it, and what draws it.

Charts and tables are bound here and not in the files that measure, so that better looks change no
identity and cost nobody a run.
"""

from functools import partial

from pipelines.experiments import (
    e02,
    e04,
    e11,
    e12,
    e13,
    e19,
    e42,
    e47a,
    e47b,
    e47e,
    groups,
    own_tables,
)  # fmt: skip
from pipelines.experiments.charts import bars_by_family, lines_by_family, places_in_range
from pipelines.experiments.click_models import ASSUMED
from pipelines.experiments.runner import Experiment
from pipelines.forget_drill import PLACES

EXPERIMENTS: tuple[Experiment, ...] = (
    Experiment(
        e02.CARD,
        e02.measure,
        partial(
            lines_by_family,
            names={name: name for name in e02.CONTENDERS},
            across=e02.JUDGES,
            axis="nDCG@10 by judge",
        ),
    ),
    Experiment(
        e04.CARD,
        e04.measure,
        partial(
            lines_by_family,
            names={
                "place_by_slots": "place alone",
                "attraction_by_slots": "true attraction alone",
                "perfect_by_slots": "perfect click model",
            },
            across=e04.SLOTS,
            axis="slots; vertical: AUC",
        ),
        own_tables.gates,
    ),
    Experiment(
        e11.CARD,
        e11.measure,
        partial(
            lines_by_family,
            names={name: name.replace("_", " ") for name in e11.VARIANTS},
            across=groups.NAMES,
            axis="vertical: share of gain",
        ),
        own_tables.joins,
    ),
    Experiment(
        e12.CARD,
        e12.measure,
        partial(
            lines_by_family,
            names={name: name for name in ("clicks lost", "calibration error added")},
            across=e12.NAMES,
            axis="fault; vertical: share of expected clicks, and of probability",
        ),
        own_tables.faults,
    ),
    Experiment(
        e13.CARD,
        e13.measure,
        partial(
            lines_by_family,
            names={name: name for name in e13.LINES},
            across=tuple(e13.LATE),
            axis="told late by; vertical: share lost",
        ),
        own_tables.lateness,
    ),
    Experiment(
        e19.CARD,
        e19.measure,
        partial(
            lines_by_family,
            names={
                "true_lost": "true clicks lost without it",
                "ndcg_lost": "nDCG@10 lost without it",
                "gain_share": "share of the trees' gain",
            },
            across=groups.NAMES,
            axis="vertical: shares",
        ),
        own_tables.groups_lost,
    ),
    Experiment(
        e42.CARD,
        e42.measure,
        partial(
            bars_by_family,
            names={f"naive_{place}": place for place in PLACES},
            unit="traces left by deleting the online rows",
        ),
    ),
    Experiment(
        e47a.CARD,
        e47a.measure,
        places_in_range,
        own_tables.facts,
    ),
    Experiment(
        e47b.CARD,
        e47b.measure,
        partial(
            lines_by_family,
            names={effect: effect.replace("_", " ") for effect in e47b.GRADED},
            across=("base", *e47b.MOVED),
            axis="",
        ),
        own_tables.flips,
    ),
    Experiment(
        e47e.CARD,
        e47e.measure,
        partial(
            bars_by_family,
            names={f"curve_error_{name}": f"assumes {name}" for name in ASSUMED},
            unit="error of the curve",
        ),
        own_tables.cross_tables,
    ),
)
