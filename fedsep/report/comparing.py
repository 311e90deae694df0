"""The comparison: one row a method, every figure as mean and standard deviation over its seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypedDict

from fedsep.report.grouping import Group, group_runs
from fedsep.report.levels import choose_levels
from fedsep.report.reading import RunData, finite
from fedsep.report.spread import (
    Spread,
    column,
    evaluations,
    figures,
    higher_is_better,
    kept_last,
    payload,
    seconds,
    spread,
)


class Level(TypedDict):
    """What it took to reach a value of the metric, over the ``reached`` runs that did."""

    level: float
    reached: int
    rounds: Spread
    bytes: Spread


class Row(TypedDict):
    """A method's figures.

    ``bytes_up`` and ``bytes_down`` are mean payload bytes per client and round; ``payload_bytes`` (up and down) and
    ``header_bytes`` are totals over all clients and rounds. ``mean_last_of`` says how many evaluations ``mean_last``
    covers, ``selected`` is the test value at the best validation round. ``counted`` runs enter the figures: those that
    are done, or all if none is. ``epsilon`` is that of private runs.
    """

    method: str
    metric: str | None
    higher_is_better: bool
    seeds: list[int]
    runs: int
    counted: int
    status: dict[str, int]
    last: Spread
    best: Spread
    mean_last: Spread
    mean_last_of: int
    selected: Spread
    epsilon: Spread
    bytes_up: Spread
    bytes_down: Spread
    payload_bytes: Spread
    header_bytes: Spread
    rounds: Spread
    seconds: Spread
    levels: list[Level]


def compare(runs: Iterable[RunData], levels: Sequence[float] | None = None) -> list[Row]:
    """Compares methods.

    Runs whose recipes differ in seeds only are one row. A run that is not done is counted only where no run of its
    row is; values that are not finite are left out, and each figure says how many runs it is of.

    Args:
        runs: Runs as ``read_run`` gives them.
        levels: Values of the metric for which rounds and bytes to reach them are given. None: at most two round
            values that the best methods reach.
    """
    return compare_groups(group_runs(runs), levels)


def compare_groups(groups: Sequence[Group], levels: Sequence[float] | None = None) -> list[Row]:
    """As ``compare``, for runs that are grouped already."""
    return [_row(group, choose_levels(groups, group.metric) if levels is None else levels) for group in groups]


def counted(group: Group) -> list[RunData]:
    """The runs whose figures count: those that are done, or all if none is."""
    return [run for run in group.runs if run.status == "done"] or list(group.runs)


def _row(group: Group, levels: Sequence[float]) -> Row:
    runs, metric = counted(group), group.metric
    merit = {name: spread(figures(run, metric or "")[name] for run in runs) for name in _FIGURES}
    status: dict[str, int] = {}
    for run in group.runs:
        status[run.status] = status.get(run.status, 0) + 1
    return Row(
        method=group.label,
        metric=metric,
        higher_is_better=higher_is_better(metric or ""),
        seeds=group.seeds,
        runs=len(group.runs),
        counted=len(runs),
        status=status,
        last=merit["last"],
        best=merit["best"],
        mean_last=merit["mean_last"],
        mean_last_of=kept_last(runs[0]),
        selected=merit["selected"],
        epsilon=spread(finite(run.summary.get("privacy", {}).get("epsilon")) for run in runs),
        bytes_up=spread(_per_message(run, "up") for run in runs),
        bytes_down=spread(_per_message(run, "down") for run in runs),
        payload_bytes=spread(_total_payload(run) for run in runs),
        header_bytes=spread(_total(run, "header", "header_bytes") for run in runs),
        rounds=spread(float(run.rounds) for run in runs),
        seconds=spread(run_seconds(run) for run in runs),
        levels=[_level(runs, metric, level) for level in levels] if metric else [],
    )


_FIGURES = ("last", "best", "mean_last", "selected")


def _level(runs: Sequence[RunData], metric: str, level: float) -> Level:
    hits = [hit for hit in (_first_reach(run, metric, level) for run in runs) if hit is not None]
    return Level(
        level=level,
        reached=len(hits),
        rounds=spread(rounds for rounds, _ in hits),
        bytes=spread(sent for _, sent in hits),
    )


def _first_reach(run: RunData, metric: str, level: float) -> tuple[float, float | None] | None:
    """Rounds and payload bytes at the first evaluation that reaches ``level``."""
    sign = 1 if higher_is_better(metric) else -1
    for row, value in evaluations(run, column(metric)):
        if sign * value >= sign * level:
            return float(row["round"]), payload(row)
    return None


def _per_message(run: RunData, way: str) -> float | None:
    """Mean payload bytes per client and round: the summary's, else total by messages."""
    told = finite(run.summary.get("bytes", {}).get(way))
    if told is not None or not run.rows:
        return told
    replies = sum(finite(row.get("replies")) or 0 for row in run.rows)
    invited = replies + sum(finite(row.get("failures")) or 0 for row in run.rows)
    messages, total = (replies if way == "up" else invited), finite(run.rows[-1].get(f"bytes_{way}"))
    return total / messages if messages and total is not None else None


def _total(run: RunData, name: str, cumulative: str) -> float | None:
    told = finite(run.summary.get("total_bytes", {}).get(name))
    return finite(run.rows[-1].get(cumulative)) if told is None and run.rows else told


def _total_payload(run: RunData) -> float | None:
    up, down = _total(run, "up", "bytes_up"), _total(run, "down", "bytes_down")
    return None if up is None or down is None else up + down


def run_seconds(run: RunData) -> float | None:
    """Seconds of training: the summary's, else the last row's."""
    told = finite(run.summary.get("seconds"))
    return seconds(run.rows[-1]) if told is None and run.rows else told
