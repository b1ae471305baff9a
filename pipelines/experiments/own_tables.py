"""Tables that belong to one experiment: how its numbers answer its question.

They stand apart from what measures, so that better words change no experiment's identity.
"""

from pipelines.experiments import e11, e13, groups
from pipelines.experiments.click_models import ASSUMED
from pipelines.experiments.e04 import AUC_TO_SHIP, AUC_TO_WAKE, NDCG_TO_SHIP, RATES, SLOTS
from pipelines.experiments.e12 import NAMES
from pipelines.experiments.e47b import GRADED, MOVED
from pipelines.experiments.outcome import Outcome
from pipelines.experiments.tables import Table, told
from pipelines.experiments.world import RANGES


def gates(outcome: Outcome) -> list[Table]:
    """E-04: each printed gate as a share of the way from knowing nothing to knowing everything."""
    rows = []
    for family, values in outcome.metrics.items():
        auc = (0.5, values["auc_perfect"].mean)
        ndcg = (values["ndcg_random"].mean, values["ndcg_best"].mean)
        rows += [
            _gate(f"AUC above {AUC_TO_SHIP:g} to ship", family, auc, AUC_TO_SHIP),
            _gate(f"AUC below {AUC_TO_WAKE:g} to alarm", family, auc, AUC_TO_WAKE),
            _gate("what place alone reaches", family, auc, values["auc_place"].mean),
            _gate(f"nDCG@10 above {NDCG_TO_SHIP:g} to ship", family, ndcg, NDCG_TO_SHIP),
        ]
    columns = ("gate", "world", "from knowing nothing to perfect", "the gate stands at")
    return [
        Table("The printed gates in the range that can be reached here", columns, rows),
        _by(outcome, "rate", [f"{times:g} x" for times in RATES], "AUC by base click rate"),
        _by(outcome, "slots", [str(slots) for slots in SLOTS], "AUC by number of slots"),
    ]


def faults(outcome: Outcome) -> list[Table]:
    """E-12: what each fault does to parity, lists, clicks and probabilities, and to no offline metric."""
    columns = (
        "fault",
        "world",
        "least parity",
        "lists kept",
        "clicks lost",
        "calibration error added",
    )
    rows = [
        [
            name,
            family,
            *(told(values[f"{what}_{name}"]) for what in ("parity", "lists_kept", "clicks_lost")),
            told(values[f"ece_added_{name}"]),
        ]
        for name in NAMES
        for family, values in outcome.metrics.items()
    ]
    return [
        Table("Each fault, in each world; offline AUC is the same in all of them", columns, rows)
    ]


def facts(outcome: Outcome) -> list[Table]:
    """E-47a: every fact in every world, marked where its mean leaves the range."""
    families = list(outcome.metrics)
    rows = []
    for name, (low, high, source) in RANGES.items():
        if name not in outcome.metrics[families[0]]:
            continue  # a fact that is younger than the record
        found = [outcome.metrics[family][name] for family in families]
        cells = [told(one) + ("" if low <= one.mean <= high else " OUT") for one in found]
        rows.append([name, f"{low:g} … {high:g}", *cells, source])
    return [Table("Stylised facts", ("fact", "range", *families, "source"), rows)]


def flips(outcome: Outcome) -> list[Table]:
    """E-47b: every graded effect in every moved world, marked where its mean turns round."""
    tables = []
    for effect, card in GRADED.items():
        rows = []
        for world in ("base", *MOVED):
            cells = []
            for values in outcome.metrics.values():
                here, home = values[f"{world}: {effect}"], values[f"base: {effect}"]
                cells.append(told(here) + (" FLIPS" if here.mean * home.mean <= 0 else ""))
            rows.append([world, *cells])
        tables.append(Table(f"{card}: {effect}", ("world", *outcome.metrics), rows))
    return tables


def cross_tables(outcome: Outcome) -> list[Table]:
    """E-47e: assumed in rows, true in columns, once for the curve and once for the ranking."""
    families = list(outcome.metrics)
    tables = []
    for title, prefix in (
        ("Error of the curve (smaller is better)", "curve_error"),
        ("True nDCG@10 of the model (larger is better)", "true_ndcg"),
    ):
        rows = [
            [name, *(told(outcome.metrics[family][f"{prefix}_{name}"]) for family in families)]
            for name in ASSUMED
        ]
        tables.append(Table(title, ("assumed", *(f"true: {family}" for family in families)), rows))
    return tables


def joins(outcome: Outcome) -> list[Table]:
    """E-11: what each join says of its own model, what rows as known say, and what users do."""
    columns = {
        "AUC by its own join": "own_auc",
        "AUC on rows as known": "known_auc",
        "nDCG@10 by its own join": "own_ndcg",
        "nDCG@10 on rows as known": "known_ndcg",
        "true clicks per slate": "clicks",
    }
    rows = [
        [
            variant.replace("_", " "),
            family,
            *(told(values[f"{c}_{variant}"]) for c in columns.values()),
        ]
        for variant in e11.VARIANTS
        for family, values in outcome.metrics.items()
    ]
    return [Table("Joins", ("join", "world", *columns), rows)]


def lateness(outcome: Outcome) -> list[Table]:
    """E-13: the share of clicks lost to each staleness."""
    late = [name for name in e13.LATE if name != "0s"]
    rows = [
        [
            name.replace("_", " "),
            *(told(values[f"lost_{name}"]) for values in outcome.metrics.values()),
        ]
        for name in (*late, e13.COUNTS, e13.USER, e13.ITEM, "24h_no_intent")
    ]
    return [Table("Share of true clicks lost", ("what is old", *outcome.metrics), rows)]


def groups_lost(outcome: Outcome) -> list[Table]:
    """E-19: what is lost without each group, offline and truly."""
    rows = [
        [name, family, told(values[f"ndcg_lost_{name}"]), told(values[f"true_lost_{name}"])]
        for name in groups.NAMES
        for family, values in outcome.metrics.items()
    ]
    columns = ("without", "world", "share of nDCG@10 lost", "share of true clicks lost")
    return [Table("What each group is worth", columns, rows)]


def _by(outcome: Outcome, what: str, points: list[str], title: str) -> Table:
    rows = [
        [name, family, *(f"{auc:.3f}" for auc in curves[f"{name}_by_{what}"])]
        for name in ("place", "attraction", "perfect")
        for family, curves in outcome.curves.items()
    ]
    return Table(title, ("who knows", "world", *points), rows)


def _gate(name: str, family: str, span: tuple[float, float], gate: float) -> list[str]:
    return [name, family, f"{span[0]:.3f} … {span[1]:.3f}", share_of(gate, *span)]


def share_of(gate: float, nothing: float, perfect: float) -> str:
    """Where the gate stands between the two; beyond either end it says so."""
    share = (gate - nothing) / (perfect - nothing)
    end = " (out of reach)" if share > 1 else " (passed by chance)" if share <= 0 else ""
    return f"{share:.0%}{end}"
