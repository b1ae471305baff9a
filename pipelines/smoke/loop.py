"""What an operator would look at: the registry, the metrics, and that visitors' clicks arrive."""

from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from pipelines.smoke.stack import Failed, Skipped, Stack, within

RECORD_SECONDS = 180.0
"""The registry follows the pointer: the monitor tells it after the swap, and each minute if it must."""

SCRAPE_SECONDS = 60.0

VISIT_SECONDS = 60.0
ALIVE = "shortlist_recommendations_total"
ARRIVED = "shortlist_stream_rows_pushed_total"


def champion(stack: Stack) -> str:
    """The registry's champion is the served bundle, and a finished run with metrics stands behind it."""
    if stack.mode == "embedded" and stack.given.mlflow is None:
        raise Skipped("embedded: runs are in <home>/mlflow.db, without a server")
    name = f"shortlist-{stack.dataset}"
    seen: dict[str, Any] = {"version": None, "served": None}

    def look() -> dict[str, Any] | None:
        seen["served"] = stack.ready()["bundle"]
        seen["version"] = version = _champion(stack, name)
        tags = {tag["key"]: tag["value"] for tag in (version or {}).get("tags", ())}
        return version if tags.get("bundle") == seen["served"] else None

    def missing() -> str:
        version = seen["version"]
        tags = {tag["key"]: tag["value"] for tag in (version or {}).get("tags", ())}
        said = f"names {tags.get('bundle')}" if version else "does not exist"
        return f"alias champion of {name} {said}, served is {seen['served']}"

    version, _ = within(RECORD_SECONDS, look, missing)
    run = stack.json(f"{stack.mlflow}/api/2.0/mlflow/runs/get", run_id=version["run_id"])["run"]
    metrics = run["data"].get("metrics", ())
    if run["info"]["status"] != "FINISHED" or not metrics:
        raise Failed(f"run {version['run_id']} is {run['info']['status']}, {len(metrics)} metrics")
    return f"{name} version {version['version']} is {seen['served']}; its run has {len(metrics)} metrics"


def _champion(stack: Stack, name: str) -> dict[str, Any] | None:
    """The version that the alias points to; None where there is none."""
    answer = stack.get(
        f"{stack.mlflow}/api/2.0/mlflow/registered-models/alias", name=name, alias="champion"
    )
    if answer.status_code in (httpx.codes.NOT_FOUND, httpx.codes.BAD_REQUEST):
        return None  # no such model, or no such alias
    if answer.status_code != httpx.codes.OK:
        raise Failed(f"{stack.mlflow} gave {answer.status_code}: {answer.text[:200]}")
    version: dict[str, Any] = answer.json()["model_version"]
    return version


def targets(stack: Stack) -> str:
    """Prometheus reaches everything that it should scrape."""
    _need_prometheus(stack)
    jobs: dict[str, list[str]] = {}

    def look() -> bool | None:
        jobs.clear()
        for target in _targets(stack):
            jobs.setdefault(target["labels"]["job"], []).append(target["health"])
        return True if jobs and {h for found in jobs.values() for h in found} == {"up"} else None

    within(SCRAPE_SECONDS, look, lambda: f"targets: {jobs or 'none'}")
    return ", ".join(f"{len(found)} {job}" for job, found in sorted(jobs.items())) + ": all up"


def served_is_counted(stack: Stack) -> str:
    """Prometheus has the API's counter of answers."""
    _need_prometheus(stack)
    count, _ = within(
        SCRAPE_SECONDS,
        lambda: _queried(stack, f"sum({ALIVE})") or None,
        lambda: f"no value of {ALIVE}",
    )
    return f"{ALIVE} {count:.0f}"


def visitors_arrive(stack: Stack) -> str:
    """Clicks of the simulated users become features while nobody does anything."""
    if stack.mode == "embedded" and stack.given.stream is None:
        raise Skipped("embedded: no simulated users, and the stream worker shows no metrics")
    if not stack.given.expects_users:
        raise Skipped("said to be without simulated users (--no-users)")
    through_prometheus = _prometheus_is_ours(stack)

    def rows() -> float:
        found = (
            _queried(stack, f"sum({ARRIVED})") if through_prometheus else _scraped(stack, ARRIVED)
        )
        return 0.0 if found is None else found

    before = rows()
    after, waited = within(
        VISIT_SECONDS,
        lambda: now if (now := rows()) > before else None,
        lambda: f"still {before:.0f} rows pushed",
    )
    return f"{after - before:.0f} feature rows in {waited:.0f} s, {after:.0f} in all"


def _need_prometheus(stack: Stack) -> None:
    """Raises Skipped where there is none and nobody said that there is."""
    if not _prometheus_is_ours(stack):
        raise Skipped(f"no Prometheus of this stack at {stack.prometheus}; name it by --prometheus")


def _prometheus_is_ours(stack: Stack) -> bool:
    """It was named, or compose brings it along; another one's at the usual place says nothing."""
    return stack.given.prometheus is not None or stack.is_behind_a_proxy


def _targets(stack: Stack) -> list[dict[str, Any]]:
    told = stack.json(f"{stack.prometheus}/api/v1/targets", state="active")
    found: list[dict[str, Any]] = told["data"]["activeTargets"]
    return found


def _queried(stack: Stack, expression: str) -> float | None:
    """The one value of an instant query; None = no such series."""
    result = stack.json(f"{stack.prometheus}/api/v1/query", query=expression)["data"]["result"]
    return float(result[0]["value"][1]) if result else None


def _scraped(stack: Stack, name: str) -> float | None:
    """The sum of one counter's samples at the stream worker's own port."""
    answer = stack.get(stack.stream)
    if answer.status_code != httpx.codes.OK:
        raise Failed(f"{stack.stream} gave {answer.status_code}")
    samples = [
        sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.name == name
    ]
    return sum(samples) if samples else None
