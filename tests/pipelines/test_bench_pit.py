"""The benchmark of the point-in-time join, small: it must compare what it times."""

import numpy as np
import pyarrow as pa

from features.definitions import BATCH_LAG, BATCH_TTL
from features.point_in_time import MOMENT, QUERY
from infra.workspace import Workspace
from pipelines.bench_pit import DAYS, _by_hand, _labels, _write_snapshots, compared, run_bench


def test_both_joins_answer_the_same_and_lose_nothing(tmp_path):
    told = run_bench(labels=3_000, rows=20 * DAYS, seed=1, folder=tmp_path)
    assert (told["labels"], told["rows"]) == (3_000, 20 * DAYS)
    assert (told["lost"], told["different"]) == (0, 0)
    assert 0.8 * 3_000 < told["found"] < 3_000  # strangers and the first night have no row
    assert told["ratio"] > 0
    assert list(tmp_path.iterdir()) == []


def test_the_join_by_hand_keeps_the_rule(tmp_path):
    """Known means created before the label; old means gone."""
    workspace = Workspace(tmp_path, "pit")
    _write_snapshots(workspace, 5, seed=2)
    asked = _labels(400, 5, seed=2)
    rows = {
        (row["user_id"], row["as_of"]): row["value_0"]
        for row in pa.parquet.read_table(workspace.offline / "snapshot.parquet").to_pylist()
    }
    got = dict(_by_hand(workspace, asked).select([QUERY, "value_0"]).to_pandas().to_numpy())
    for user_id, moment, query in asked[["user_id", MOMENT, QUERY]].to_numpy():
        newest = (moment - BATCH_LAG).floor("D")
        expected = rows.get((user_id, newest.to_pydatetime()), np.nan)
        assert newest >= moment - BATCH_TTL
        np.testing.assert_equal(got[query], expected)


def test_a_difference_is_counted():
    def table(values):
        columns = {f"value_{number}": values for number in range(6)}
        return pa.table({QUERY: list(range(len(values))), **columns})

    same = compared(table([1.0, None]), table([1.0, None]), 2)
    assert same == {"found": 1, "lost": 0, "different": 0}
    assert compared(table([1.0, 2.0]), table([1.0, None]), 2)["different"] == 6
    assert compared(table([1.0]), table([1.0, None]), 2)["lost"] == 1
