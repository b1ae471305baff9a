"""From a staged and judged bundle to the one that serving answers from, and back.

publish_bundle    the evaluated weights over the newest data -> bundles/versions/<id>/
publish_popular   what needs no training, for a shop that has no model yet
refresh_bundle    the champion's weights over today's data: every night, trained or not
promote           the gate, then the pointer
rollback          the pointer back

python -m pipelines.promote --dataset world [--bundle ID] [--force] [--rollback]
"""

import argparse
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from features.definitions import BATCH_LAG, Feature
from features.errors import ContractError
from features.feature_set import CURRENT, FeatureSet
from features.point_in_time import item_matrix
from infra.clients import open_feast
from infra.reports import write_json
from infra.settings import Settings
from infra.workspace import Workspace
from models import bundle as bundles
from models.bundle import Bundle, load, of_parts, version_path
from models.manifest import is_trained, read_manifest
from models.metrics import bootstrap
from models.split import time_split
from models.staging import Parts, write
from pipelines.check_quality import failed_batch
from pipelines.evaluate import CHAMPION
from pipelines.past import Past, busiest, read_past
from pipelines.ranker_rows import TICK
from pipelines.reference import reference_rows
from pipelines.retrieval import Retrieval, read
from pipelines.skew import standing
from pipelines.train_retrieval import FOR_BUNDLE

SEED = 0
"""Of the gate's resampling and of the reference's sample: the same bundle, the same verdict."""

Daily = Callable[[Sequence[str], Sequence[Feature]], np.ndarray]

NOT_YET = "not trained yet"
"""Why a popular bundle lacks what it lacks; the API says so with every list."""


def publish_bundle(workspace: Workspace, now: datetime | None = None) -> str:
    """Publish the staged weights over everything the lake knows now; nobody points to it yet.

    The weights are those that were evaluated. What needs no training (catalogue, item features,
    popularity, neighbours) is made again as of the end of the data, so that serving does not start
    with a popular list as old as the test window.

    Args:
        workspace: with a staged and judged bundle.
        now: as of when; None = the first night after the data.

    Returns:
        The bundle's id; its judgement is kept in `training`/"evaluations"/<id>.*.

    Raises:
        ContractError: nothing staged or judged, or no item features known at the end of the data.
    """
    folder = workspace.training
    for file, step in (("bundle/manifest.json", "train"), ("evaluation.json", "evaluate")):
        if not (folder / file).exists():
            raise ContractError(f"no {folder / file}; run `shortlist {step}` first")
    staged = load(folder / "bundle")
    if leak := staged.manifest.get("leak"):
        raise ContractError(
            f"{staged.id} was trained on rows that look ahead (--leak {leak}): its evaluation shows "
            "what a leak is worth, and it is never served; run `shortlist train` without"
        )
    result = json.loads((folder / "evaluation.json").read_text())
    if result["bundle"] != staged.id:
        raise ContractError(
            f"{folder / 'evaluation.json'} judges {result['bundle']}, but {staged.id} is staged; "
            "run `shortlist evaluate` again"
        )
    past, store = read_past(workspace), open_feast(workspace)
    split = time_split(past.positives["event_us"].to_numpy())
    moment, features = now or fresh_at(split.end), staged.catalogue.features
    parts = replace(
        past.parts(moment, _matrix(past, store, moment, features), read(folder / FOR_BUNDLE)),
        features=features,
        vocabulary=staged.catalogue.vocabulary,  # the codes that the ranker learned
        ranker=staged.ranker,
        trained_until=staged.manifest["trained_until"],
        absent=staged.absent,
        metrics={part: _its_own(result[part]) for part in ("models", "paired")},
    )
    served = of_parts(parts, path=None, manifest={"id": "reference", "absent": {}})
    reference = reference_rows(workspace, past, store, served, split.end, SEED)
    bundle_id = _publish(workspace, replace(parts, reference=reference), past.before(moment))
    (folder / "evaluations").mkdir(exist_ok=True)
    shutil.copy(folder / "per_user.parquet", folder / "evaluations" / f"{bundle_id}.parquet")
    shutil.copy(folder / "evaluation.json", folder / "evaluations" / f"{bundle_id}.json")
    (folder / "published.json").write_text(json.dumps({"bundle": bundle_id}))
    return bundle_id


def publish_popular(workspace: Workspace) -> str:
    """Publish what everybody wants as of the end of the data, with nothing learned or computed.

    Returns:
        The bundle's id; nobody points to it yet.

    Raises:
        ContractError: the lake is empty.

    Interview: A new shop has no model yet. What does its recommender answer?
        The same bundle with most parts missing: catalogue and popular list, both of which come
        straight from the log. It goes the usual way, published, promoted, verified, so the first
        trained model is an ordinary swap and every answer until then names what is missing.
        Trade-off: an empty shelf would push somebody to finish the model sooner.
        Shown by: tests/pipelines/test_bootstrap.py::test_the_api_answers_and_says_what_is_missing
    """
    past = read_past(workspace)
    moment = fresh_at(time_split(past.positives["event_us"].to_numpy()).end)
    defaults = [feature.default for feature in CURRENT.item]
    parts = past.parts(moment, np.tile(defaults, (len(past.ids(moment)), 1)), retrieval=None)
    absent = dict.fromkeys(("two_tower", "covisitation", "ranker"), NOT_YET)
    parts = replace(parts, covisitation=None, absent=absent)
    return _publish(workspace, parts, past.before(moment))


def refresh_bundle(workspace: Workspace, now: datetime, daily: Daily | None = None) -> str:
    """Publish the champion's weights over what the lake knows now; nobody points to it yet.

    Args:
        workspace: with a promoted bundle.
        now: as of when.
        daily: item ids, features -> (N, Fi) values at `now`; None = from the feature store.

    Returns:
        The bundle's id. Its reference for drift is the champion's: a shift since the training must
        not be forgotten every night.

    Raises:
        ContractError: no bundle is promoted, or no item features are known at `now`.

    Interview: Nothing drifted, so you did not retrain. What is stale all the same?
        All that is data and not weights: new items, prices, counts, neighbours, the popular list.
        So every night the same weights are published over today's tables. It needs no gate, for
        there is nothing new to judge, and it is what keeps a model good between two trainings.
        Trade-off: vectors are weights too, so an item that is newer than the training is found by
        its features and by popularity only, until the next training.
        Shown by: tests/pipelines/test_promote.py::test_the_same_weights_over_todays_data
    """
    champion_id = bundles.current(workspace.bundles)
    if champion_id is None:
        raise ContractError(f"data set '{workspace.name}' has no bundle that could be refreshed")
    champion, past = load(version_path(workspace.bundles, champion_id)), read_past(workspace)
    features = champion.catalogue.features
    if daily is None:
        found = _matrix(past, open_feast(workspace), now, features)
    else:
        found = daily(past.ids(now), features.item)
    fresh = past.parts(now, found, _weights(champion))
    reference = version_path(workspace.bundles, champion_id) / "reference.parquet"
    return _publish(
        workspace,
        replace(
            fresh,
            features=features,
            vocabulary=champion.catalogue.vocabulary,
            covisitation=None if champion.covisitation is None else fresh.covisitation,
            ranker=champion.ranker,
            trained_until=champion.manifest["trained_until"],
            absent=champion.absent,
            metrics=champion.manifest["metrics"],
            reference=pd.read_parquet(reference) if reference.exists() else None,
        ),
        past.before(now),
    )


def _weights(champion: Bundle) -> Retrieval | None:
    """The towers of a bundle, as they were trained."""
    if champion.tower is None or champion.item_vectors is None:
        return None
    ids, until = champion.catalogue.item_ids, champion.manifest["trained_until"]
    return Retrieval(ids, champion.item_vectors, champion.tower, until)


def _publish(workspace: Workspace, parts: Parts, positives: pd.DataFrame) -> str:
    """Stage and publish; the staged copy stays until the next one. The page hears who comes often."""
    write_json(workspace.sample_users, busiest(positives))
    write(workspace.training / "to-publish", parts)
    return bundles.publish(workspace.training / "to-publish", workspace.bundles)


def promote(
    workspace: Workspace, bundle_id: str | None = None, force: bool = False
) -> dict[str, Any]:
    """Let serving answer from a published bundle, unless the champion is surely better.

    Args:
        workspace: where the bundles are.
        bundle_id: a published id; None = the newest.
        force: promote whatever the gate says. A damaged bundle is refused all the same.

    Returns:
        `promoted`, `verdict` (one sentence), `bundle`, `previous` (the champion until now, or
        None), `difference` {mean, low, high} in nDCG@10 by user, or None without a comparison.

    Raises:
        ContractError: unknown or damaged bundle.

    Interview: What must a model prove before it replaces the one in production?
        That it is whole (every byte matches its manifest, every feature is ours), that the features
        it reads are served as they are trained, and that it is not surely worse than the champion
        on the same users. An absolute threshold would only
        measure how easy this month's data is. Only a champion that learned nothing is replaced
        without a comparison: its popular list stands in every evaluation as a baseline.
        Trade-off: a gate that refuses only what is surely worse lets small losses through; many
        small losses in a row need a hold-out that is never retrained.
        Shown by: tests/pipelines/test_promote.py::test_a_surely_worse_challenger_is_refused
    """
    bundle_id = bundle_id or _newest(workspace)
    challenger = load(version_path(workspace.bundles, bundle_id))
    champion = bundles.current(workspace.bundles)
    passed, because, difference = _gate(workspace, challenger, champion)
    promoted = passed or force
    if promoted:
        bundles.point_to(workspace.bundles, bundle_id)
    forced = " (forced)" if force and not passed else ""
    return {
        "promoted": promoted,
        "verdict": f"{'promoted' if promoted else 'refused'}{forced}: {because}",
        "bundle": bundle_id,
        "previous": champion,
        "difference": difference,
    }


def rollback(workspace: Workspace) -> dict[str, Any]:
    """Point back to the bundle before; raises ContractError where there is none."""
    left = bundles.current(workspace.bundles)
    bundle_id = bundles.rollback(workspace.bundles)
    return {"bundle": bundle_id, "left": left, "verdict": f"serving answers from {bundle_id} again"}


def _its_own(judged: dict[str, Any]) -> dict[str, Any]:
    """Without the champion: the same bundle has the same id, whatever it was compared with."""
    return {model: values for model, values in judged.items() if model != CHAMPION}


def fresh_at(end: datetime) -> datetime:
    """The first moment after `end` at which a new day's batch rows are known."""
    midnight = end.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + (timedelta(days=1) if midnight < end else timedelta()) + BATCH_LAG + TICK


def _gate(
    workspace: Workspace, challenger: Bundle, champion: str | None
) -> tuple[bool, str, dict[str, Any] | None]:
    """Whether it may pass, why, and the paired difference if there is one."""
    bundle_id = challenger.id
    if batch := failed_batch(workspace):
        return False, f"the data is in doubt: {batch}", None
    if champion is None:
        return True, "the first bundle", None
    if champion == bundle_id:
        return True, "it is the champion already", None
    if challenger.ranker and (told := standing(workspace, challenger.catalogue.features.names)):
        return False, told, None
    if not is_trained(read_manifest(version_path(workspace.bundles, champion))):
        return True, f"{champion} is a popular list, nothing in it was trained", None
    judged = workspace.training / "evaluations" / f"{bundle_id}.json"
    seen = json.loads(judged.read_text())["champion"] if judged.exists() else None
    if seen != champion:
        return False, f"compared with {seen}, expected {champion}; run `shortlist evaluate`", None
    table = pd.read_parquet(judged.with_suffix(".parquet"))
    if table.empty:
        return True, "no test user, nothing to compare", None
    difference = bootstrap((table["full"] - table[CHAMPION]).to_numpy(), SEED)
    assert difference["high"] is not None
    told = (
        f"nDCG@10 {difference['mean']:+.4f} ({difference['low']:+.4f} … {difference['high']:+.4f}) "
        f"against {champion} on {len(table)} users"
    )
    return difference["high"] >= 0, told, difference


def _newest(workspace: Workspace) -> str:
    path = workspace.training / "published.json"
    if not path.exists():
        raise ContractError(f"no {path}; publish a bundle first with `shortlist train`")
    return json.loads(path.read_text())["bundle"]


def _matrix(past: Past, store: Any, moment: datetime, features: FeatureSet) -> np.ndarray:
    matrix = item_matrix(store, past.ids(moment), [moment], features.item)[moment]
    daily = [place for place, f in enumerate(features.item) if f.view == "item_daily"]
    if (matrix[:, daily] == [features.item[place].default for place in daily]).all():
        raise ContractError(
            f"no item_daily row is known at {moment:%Y-%m-%d %H:%M} UTC, expected those of "
            f"{moment:%Y-%m-%d}; run `shortlist features` first"
        )
    return matrix


def main() -> None:
    """Command line of this step; prints the result as one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.promote", description=__doc__)
    parser.add_argument("--dataset", default="world")
    parser.add_argument("--bundle", default=None, help="a published id; the newest unless named")
    parser.add_argument("--force", action="store_true", help="promote against the gate")
    parser.add_argument("--rollback", action="store_true", help="back to the bundle before")
    asked = parser.parse_args()
    workspace = Workspace.of(Settings(dataset=asked.dataset))
    done = rollback(workspace) if asked.rollback else promote(workspace, asked.bundle, asked.force)
    print(json.dumps(done))


if __name__ == "__main__":
    main()
