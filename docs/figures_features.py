"""Figures of the features platform: one block for each report that measures it.

docs/figures.py puts them into the pages.
"""

from typing import Any


def parity_table(report: dict[str, Any]) -> str:
    """Data set x pair of engines: columns and values compared, how many differ."""
    rows = [
        "| data | compared | columns | values | different | largest relative distance |",
        "|---|---|---|---|---|---|",
    ]
    for name, told in report["metrics"].items():
        for pair, columns in told["pairs"].items():
            if isinstance(columns, str):
                rows.append(f"| {name} | {pair} | – | – | – | {columns} |")
                continue
            values, different = (
                sum(column[what] for column in columns.values()) for what in ("values", "different")
            )
            worst = max(column["worst"] for column in columns.values())
            rows.append(
                f"| {name} | {pair} | {len(columns)} | {values:,} | {different:,} | {worst:.1e} |"
            )
    return "\n".join(rows)


def crash_table(report: dict[str, Any]) -> str:
    """Backend x what was wrong after all the kills."""
    rows = [
        "| log and store | kills while working, of all | events | wrong keys | lost "
        "| late, counted of expected | resumes in, p99 |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in report["metrics"].items():
        late = f"{found['late_counted']:,} of {found['late_expected']:,}"
        rows.append(
            f"| {'SQLite' if name == 'embedded' else 'Kafka and Redis'} "
            f"| {found['killed_working']} of {found['kills']} | {found['recounted']:,} "
            f"| {found['wrong_keys']} | {found['lost']} | {late} | {found['resume_s_p99']:.2f} s |"
        )
    return "\n".join(rows)


def stream_sentence(report: dict[str, Any]) -> str:
    """Fold, end to end, freshness."""
    found = report["metrics"]
    return (
        f"**{found['fold_events_per_s']:,} events a second** through the fold with durable state on one "
        f"core ({found['fold_ratio']:.1f} times the plain fold that defines it), "
        f"**{found['end_to_end_events_per_s']:,}** from Kafka to Redis; at "
        f"{found['freshness_rate_per_s']:,} events a second a row is in Redis after "
        f"{found['freshness_ms_p50']:.0f} ms (median), {found['freshness_ms_p99']:.0f} ms (p99)."
    )


def pit_sentence(report: dict[str, Any]) -> str:
    """The join beside one written by hand."""
    found = report["metrics"]
    return (
        f"**{found['ratio']:.2f} times a hand-written ASOF join**: {found['labels']:,} labels against "
        f"{found['rows']:,} rows in {found['feast_s']:.1f} s and {found['asof_s']:.1f} s, "
        f"{found['lost']} lost, {found['different']} different."
    )


def skew_table(report: dict[str, Any]) -> str:
    """What was injected x what the comparison says."""
    rows = [
        "| injected | requests | integers equal | floats equal | named |",
        "|---|---|---|---|---|",
    ]
    for name, run in report["metrics"].items():
        told = run["told"]
        named = ", ".join(f"`{column}` ({like})" for column, like in told["named"].items())
        equal = " | ".join(f"{told[kind]['equal']:.3%}" for kind in ("integers", "floats"))
        rows.append(f"| {name} | {run['requests']:,} | {equal} | {named or 'nothing'} |")
    return "\n".join(rows)


def online_table(report: dict[str, Any]) -> str:
    """Store x milliseconds of one user's read, alone and while writers write."""
    rows = [
        "| store | | ours p50 | p99 | Feast's own call p50 | p99 |",
        "|---|---|---|---|---|---|",
    ]
    metrics = report["metrics"]
    for store in ("sqlite", "redis"):
        for load in ("idle", "busy"):
            found = metrics[store][load]
            times = (found[f"{who}_ms_{at}"] for who in ("ours", "feast") for at in ("p50", "p99"))
            cells = " | ".join(f"{ms:.2f} ms" for ms in times)
            rows.append(f"| {store} | {'alone' if load == 'idle' else 'writers write'} | {cells} |")
    pairs = "; ".join(
        f"{metrics[store]['pairs_different']} of {metrics[store]['pairs_compared']:,} on {store}"
        for store in ("sqlite", "redis")
    )
    return "\n".join(
        [*rows, "", f"Item matrix and Feast differ in {pairs} random pairs of item and feature."]
    )


def reliability_table(report: dict[str, Any]) -> str:
    """Drill x figures promised and found."""
    rows = ["| drill | figure | promised | found |", "|---|---|---|---|"]
    for name, drill in report["metrics"]["drills"].items():
        for figure, bound in drill.get("expected", {}).items():
            found = drill["metrics"].get(figure)
            said = f"{found:.3g}" if isinstance(found, float) else str(found)
            mark = " **missed**" if figure in drill["missed"] else ""
            rows.append(f"| {name} | {figure} | {bound} | {said}{mark} |")
    return "\n".join(rows)


FIGURES = {
    # name -> (report it is made from, how)
    "parity": ("parity", parity_table),
    "stream-crash": ("stream-crash", crash_table),
    "stream": ("stream", stream_sentence),
    "pit": ("pit", pit_sentence),
    "skew": ("skew-drill", skew_table),
    "online": ("online", online_table),
    "reliability": ("reliability", reliability_table),
}
