"""Mean and standard deviation over seeds, and the figures of one run that they are taken of."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from typing import Any, TypedDict, cast

from fedsep.report.reading import Record, RunData, finite, number

LAST = 10
"""Evaluations that the mean of the last ones covers where the recipe does not say."""

_LOWER = ("loss", "mse", "mae", "mape", "error", "perplexity", "nll", "brier", "distance", "cost", "regret",
          "bits_per_byte")  # fmt: skip


class Spread(TypedDict):
    """A figure over seeds: mean, sample standard deviation (None for one seed), runs that had a finite one."""

    mean: float | None
    std: float | None
    n: int


def spread(values: Iterable[float | None]) -> Spread:
    """Mean and sample standard deviation of the finite values."""
    kept = [value for value in values if value is not None and math.isfinite(value)]
    if not kept:
        return Spread(mean=None, std=None, n=0)
    return Spread(mean=statistics.fmean(kept), std=statistics.stdev(kept) if len(kept) > 1 else None, n=len(kept))


def higher_is_better(metric: str) -> bool:
    """Whether a metric of this name is to be large."""
    return not metric.endswith(_LOWER)


def column(metric: str) -> str:
    """The column of ``metrics.jsonl`` that holds the server model's ``metric``."""
    return metric if metric.startswith("validation_") else f"test_{metric}"


def evaluations(run: RunData, name: str) -> list[tuple[Record, float]]:
    """The rows that hold the column ``name``, with its value (which may be NaN)."""
    pairs = ((row, number(row.get(name))) for row in run.rows)
    return [(row, value) for row, value in pairs if value is not None]


def figures(run: RunData, metric: str) -> dict[str, float | None]:
    """``last``, ``best``, ``mean_last`` and ``selected`` of a run: its summary's, else from its rows."""
    told: Any = run.summary.get("metrics", {}).get(metric)
    own = cast(Record, told) if isinstance(told, dict) else {}
    computed = _from_rows(run, metric)
    return {name: number(own[name]) if name in own else computed[name] for name in computed}


def kept_last(run: RunData) -> int:
    """How many evaluations ``mean_last`` covers."""
    evaluate: Any = run.recipe.get("evaluate")
    told = cast(Record, evaluate).get("last") if isinstance(evaluate, dict) else None
    return told if isinstance(told, int) and told > 0 else LAST


def _from_rows(run: RunData, metric: str) -> dict[str, float | None]:
    values = [value for _, value in evaluations(run, column(metric))]
    kept = [value for value in values if math.isfinite(value)]
    tail = values[-kept_last(run) :]
    return {
        "last": values[-1] if values else None,
        "best": (max if higher_is_better(metric) else min)(kept) if kept else None,
        "mean_last": statistics.fmean(tail) if tail else None,
        "selected": _selected(run, metric),
    }


def _selected(run: RunData, metric: str) -> float | None:
    """The test value at the best validation round, the first of equals."""
    pairs = [(finite(row.get(f"validation_{metric}")), value) for row, value in evaluations(run, column(metric))]
    known = [(chosen_by, value) for chosen_by, value in pairs if chosen_by is not None]
    sign = 1 if higher_is_better(metric) else -1
    return max(known, key=lambda pair: sign * pair[0])[1] if known else None


def payload(row: Record) -> float | None:
    """Cumulative payload bytes up and down, over all clients, after a row's round."""
    up, down = finite(row.get("bytes_up")), finite(row.get("bytes_down"))
    return None if up is None or down is None else up + down


def seconds(row: Record) -> float | None:
    """Cumulative seconds of training after a row's round."""
    return finite(row.get("wall_seconds"))
