from datetime import UTC, datetime, timedelta

import pytest

from monitoring.policy import Decision, Thresholds, decide, held

LIMITS = Thresholds(
    rows_min=100, share_max=0.25, score_max=0.4, null_share_max=0.05, outside_share_max=0.02
)


def report(drifted=(), score=0.0, rows=1000, share=None, nulls=None, outside=None):
    names = ["device", "location", "account_age_days", "price_ratio"]
    columns = {
        name: {"drifted": name in drifted, "method": "wasserstein", "score": 0.9 - place / 10}
        for place, name in enumerate(names)
    }
    columns["score"] = {"drifted": score > 0.2, "method": "wasserstein", "score": score}
    quality = {name: {"null_share": 0.0, "outside_share": 0.0} for name in columns}
    for name, value in (nulls or {}).items():
        quality[name]["null_share"] = value
    for name, value in (outside or {}).items():
        quality[name]["outside_share"] = value
    return {
        "columns": columns,
        "share": len(drifted) / len(names) if share is None else share,
        "quality": quality,
        "rows": {"reference": 1000, "current": rows},
    }


def test_a_quiet_day_changes_nothing():
    decision = decide(report(drifted=["device"]), LIMITS)
    assert decision == Decision(
        False,
        "25% of the input columns drifted (limit 25%) and the scores moved by 0.00 (limit 0.40)",
    )


def test_many_drifted_columns_retrain_and_are_named_furthest_first():
    decision = decide(report(drifted=["location", "device"]), LIMITS)
    assert decision.retrain
    assert decision.because == (
        "50% of the input columns drifted (limit 25%), most of all device, location"
    )


def test_moved_scores_retrain_by_themselves():
    decision = decide(report(score=0.5), LIMITS)
    assert decision.retrain
    assert decision.because.startswith("the scores moved by 0.50 (limit 0.40)")


def test_too_few_rows_decide_nothing():
    decision = decide(report(drifted=["device", "location"], rows=99), LIMITS)
    assert not decision.retrain
    assert decision.because == "99 rows were served, too few to judge (needs 100)"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"nulls": {"device": 0.06}}, "device is missing in 6% of the rows"),
        ({"outside": {"price_ratio": 0.5}}, "price_ratio is out of range in 50% of the rows"),
    ],
)
def test_broken_data_blocks_even_where_all_drifted(fault, said):
    decision = decide(report(share=1.0, score=9.0, **fault), LIMITS)
    assert not decision.retrain
    assert decision.blocked
    assert decision.because == f"training is blocked, the data looks broken: {said}"


def test_a_long_list_is_cut_and_counted():
    drift = report(share=0.9)
    drift["columns"] |= {
        f"c{n}": {"drifted": True, "method": "wasserstein", "score": 1.0} for n in range(9)
    }
    assert decide(drift, LIMITS).because.endswith("c0, c1, c2, c3, c4, c5 and 3 more")


NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_a_recent_training_holds_the_next_one_back():
    decision = Decision(True, "76% of the input columns drifted")
    waiting = held(decision, NOON - timedelta(minutes=25), NOON, HOUR)
    assert waiting == Decision(
        False,
        "76% of the input columns drifted; but the last training ended 25 minutes ago (pause 60)",
    )
    assert held(decision, NOON - HOUR, NOON, HOUR) == decision
    assert held(decision, None, NOON, HOUR) == decision


def test_a_decision_not_to_train_is_not_touched_by_the_pause():
    for decision in (Decision(False, "quiet"), Decision(False, "broken", blocked=True)):
        assert held(decision, NOON, NOON, HOUR) == decision
