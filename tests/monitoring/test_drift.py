"""Populations are drawn by user and served in slates of ten, as in life: rows are not independent."""

import json

import numpy as np
import pandas as pd
import pytest

from features.definitions import FEATURE_NAMES, FEATURES
from monitoring.drift import MOMENTARY, REPORTS_KEPT, drift_report, served_frame
from monitoring.policy import decide

K = 10


def population(users: int, seed: int, *, segment: str = "known") -> pd.DataFrame:
    """One slate of K items for each user; user features repeat within a slate."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            feature.column: (
                rng.gamma(2.0, 5.0, users * K)
                if feature.view in ("item_daily", "request")
                else np.repeat(rng.gamma(2.0, 5.0, users), K)
            )
            for feature in FEATURES
        }
    )
    frame["category"] = rng.integers(0, 20, users * K)
    frame["device"] = np.repeat(rng.choice([0, 1, 2], users, p=[0.6, 0.3, 0.1]), K)
    frame["location"] = np.repeat(rng.integers(0, 8, users), K)
    frame["position"] = 0.0
    frame["history_rr"] = 0.0  # a constant column: this data set has a seen filter
    frame["score"] = rng.normal(size=users * K)
    if segment == "new":
        for feature in FEATURES:
            if feature.view in ("user_daily", "user_category_daily"):
                frame[feature.column] = feature.default
        frame["device"], frame["location"] = -1, -1
    return frame[[*FEATURE_NAMES, "score"]]


def test_two_halves_of_one_population_are_quiet(tmp_path):
    for seed in (1, 2):
        drift = drift_report(population(300, seed), population(300, seed + 100), tmp_path)
        assert drift["share"] == 0.0
        assert drift["rows"] == {"reference": 3000, "current": 3000}
        assert not decide(drift).retrain
        # Reports are kept side by side, and need no network to be looked at.
        assert drift["report"] == f"drift-000{seed}.html"
        assert 'src="http' not in (tmp_path / drift["report"]).read_text()
        kept = json.loads((tmp_path / f"drift-000{seed}.json").read_text())
        assert kept["columns"] == drift["columns"]


def test_a_new_kind_of_user_is_found_and_named(tmp_path):
    half = [population(150, 5), population(150, 6, segment="new")]
    drift = drift_report(population(300, 4), pd.concat(half), tmp_path)
    for name in ("device", "location", "account_age_days", "category_share_90d"):
        assert drift["columns"][name]["drifted"], name
    for name in ("category", "item_price", "score"):
        assert not drift["columns"][name]["drifted"], name
    compared = set(FEATURE_NAMES) - MOMENTARY
    assert set(drift["columns"]) == compared | {"score"}
    drifted = [name for name in compared if drift["columns"][name]["drifted"]]
    assert drift["share"] == len(drifted) / len(compared)
    decision = decide(drift)
    assert decision.retrain
    assert "input columns drifted" in decision.because


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A reference and a day on which pipes broke, and columns that have no distance."""
    reference, current = population(120, 1), population(120, 2)
    reference["item_rating_90d"], current["item_rating_90d"] = np.nan, np.nan
    current["item_users_30d"] = np.nan
    reference["item_age_days"], current["item_age_days"] = 1.0, 2.0
    current["item_price"] *= 100  # cents for euros
    current.loc[: len(current) // 4, "price_mean_90d"] = np.nan
    current["user_idle_days"] = 90.0  # the default, which the reference happens not to have
    return drift_report(reference, current, tmp_path_factory.mktemp("drift"))


def test_columns_without_a_distance_are_judged_without_evidently(broken):
    columns = broken["columns"]
    assert columns["history_rr"] == {"drifted": False, "method": "constant", "score": 0.0}
    assert columns["item_rating_90d"] == {"drifted": False, "method": "no values", "score": 0.0}
    assert columns["item_users_30d"] == {"drifted": True, "method": "no values", "score": 1.0}
    assert columns["item_age_days"] == {"drifted": True, "method": "constant", "score": 1.0}


def test_broken_values_are_told_from_drifted_ones(broken):
    quality = broken["quality"]
    assert quality["item_price"]["outside_share"] > 0.5
    assert quality["price_mean_90d"]["null_share"] == pytest.approx(0.25, abs=0.01)
    assert quality["item_users_30d"]["null_share"] == 1.0
    assert quality["user_idle_days"]["outside_share"] == 0.0
    decision = decide(broken)
    assert decision.blocked
    assert "item_price is out of range" in decision.because
    assert "price_mean_90d is missing" in decision.because


def test_nothing_served_is_too_few_and_no_crash(tmp_path):
    nothing = pd.DataFrame(columns=[*FEATURE_NAMES, "score"], dtype=float)
    drift = drift_report(population(20, 1), nothing, tmp_path)
    assert decide(drift).because.startswith("0 rows were served, too few")
    assert drift["report"] is None


def slate(at: str, bundle: str = "b1", features: bool = True, rows: int = 2) -> dict:
    width = len(FEATURE_NAMES)
    values = [[float(row)] * (width - 1) + [None] for row in range(rows)] if features else []
    return {
        "served_at": at,
        "bundle": bundle,
        "scores": [0.5] * rows,
        "features": values,
    }


def test_served_rows_are_read_within_the_time_asked_for(open_log):
    log = open_log(partitions=3)
    log.append("served", [(f"u{n}", slate(f"2026-03-0{n}T00:00:00+00:00")) for n in range(1, 6)])
    log.append("served", [("u1", slate("2026-03-02T00:00:00+00:00", features=False))])
    log.append("served", [("u2", slate("2026-03-02T00:00:00+00:00", bundle="b2", rows=3))])
    since, until = (pd.Timestamp(f"2026-03-0{n}", tz="UTC") for n in (2, 4))
    frame = served_frame(log, since, until)
    assert list(frame.columns) == [*FEATURE_NAMES, "score"]
    assert len(frame) == 2 + 2 + 3  # days 2 and 3, and the other bundle's slate
    assert len(served_frame(log, since, until, bundle="b2")) == 3
    assert len(served_frame(log)) == 5 * 2 + 3
    assert frame[FEATURE_NAMES[-1]].isna().all()
    assert set(frame["score"]) == {0.5}


def test_an_empty_log_gives_an_empty_frame(open_log):
    frame = served_frame(open_log(partitions=2))
    assert frame.shape == (0, len(FEATURE_NAMES) + 1)


def test_a_long_log_is_read_from_near_its_end(open_log):
    log = open_log(partitions=1)
    log.append("served", [("u", slate("2026-03-01T00:00:00+00:00", rows=n)) for n in (7, 5, 3)])
    assert len(served_frame(log, newest=2)) == 5 + 3
    assert len(served_frame(log, newest=99)) == 7 + 5 + 3


def test_old_reports_go_and_numbers_are_not_used_twice(tmp_path):
    for number in range(1, REPORTS_KEPT + 3):
        (tmp_path / f"drift-{number:04d}.html").touch()
        (tmp_path / f"drift-{number:04d}.json").touch()
    last = drift_report(population(20, 1), population(20, 2), tmp_path)["report"]
    assert last == f"drift-{REPORTS_KEPT + 3:04d}.html"
    kept = sorted(path.stem for path in tmp_path.glob("*.html"))
    assert len(kept) == REPORTS_KEPT
    assert kept[-1] == f"drift-{REPORTS_KEPT + 3:04d}"
    assert kept == sorted(path.stem for path in tmp_path.glob("*.json"))
