"""What a sweep found: a table, ``sweep.json``, and the chosen settings as recipes that can be run."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from fedsep.cli.grid import Axis, Point
from fedsep.cli.plan import Job
from fedsep.cli.screen import Screen
from fedsep.files import write_json
from fedsep.recipes import Recipe, write
from fedsep.report import RunData, read_run
from fedsep.report.spread import figures, higher_is_better
from fedsep.report.wording import NONE, plural, seconds_text, value_text

OVER = ("done", "failed")
"""Of runs with which nothing goes on."""

Tried = tuple[Point, Recipe, list[Job]]


@dataclass(frozen=True)
class _Trial:
    """A method with some settings: its figures as means over seeds, None unless every seed is done."""

    point: Point
    recipe: Recipe
    method: str
    metric: str | None
    validation: float | None
    test: float | None
    seconds: float | None
    folders: list[str]
    statuses: list[str]
    failed_replies: int

    @property
    def over(self) -> bool:
        """Whether every run is done, or failed."""
        return all(status in OVER for status in self.statuses)

    @property
    def record(self) -> dict[str, Any]:
        """Ready for JSON. The test figure is that of the round which is best on validation data."""
        return {
            "settings": self.point.settings,
            "validation": self.validation,
            "test": self.test,
            "seconds": self.seconds,
            "failed_replies": self.failed_replies,
            "runs": dict(zip(self.folders, self.statuses, strict=True)),
        }


@dataclass(frozen=True)
class Verdict:
    """What a sweep found.

    Attributes:
        trials: Of every method: the settings that were tried.
        chosen: Of every method all of whose runs are over: the best of those that are done.
    """

    trials: dict[str, list[_Trial]]
    chosen: dict[str, _Trial]

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """The chosen settings of every method, by path."""
        return {name: best.point.settings for name, best in self.chosen.items()}


def verdict(methods: Iterable[str], tried: Sequence[Tried], metric: str | None = None) -> Verdict:
    """Chooses, for each method, the settings with the best validation figure.

    Args:
        methods: Names.
        tried: Every point with its recipe and its runs.
        metric: Whose validation figure decides; None: the task's first.
    """
    trials = {name: [_trial(item, name, metric) for item in tried if name in item[0].methods] for name in methods}
    over = {name: of for name, of in trials.items() if all(trial.over for trial in of)}
    return Verdict(trials, {name: best for name, of in over.items() if (best := _best(of)) is not None})


def conclude(
    screen: Screen,
    recipe: Recipe,
    axes: Sequence[Axis],
    tried: Sequence[Tried],
    out: Path,
    metric: str | None = None,
) -> set[str]:
    """Chooses, for each method, the settings with the best validation figure; writes and prints them.

    Args:
        screen: For the table.
        recipe: The recipe that was swept.
        axes: What was varied.
        tried: Every point with its recipe and its runs.
        out: Gets ``sweep.json`` and ``best/<method>.yaml``.
        metric: Whose validation figure decides; None: the task's first.

    Returns:
        The methods for which settings could be chosen.
    """
    found = verdict(recipe.methods, tried, metric)
    trials, chosen = found.trials, found.chosen
    for name, of in trials.items():
        if name not in chosen:
            (out / "best" / f"{name}.yaml").unlink(missing_ok=True)  # of an earlier, smaller grid
            over = all(trial.over for trial in of)
            why = "of no setting all runs are done" if over else "not all of its runs are over"
            screen.warn(f"{name}: nothing is chosen: {why}")
    for name, best in chosen.items():
        (out / "best").mkdir(parents=True, exist_ok=True)
        write({**best.recipe.resolved(), "name": f"{recipe.name}_best_{name}"}, out / "best" / f"{name}.yaml")
    write_json(
        out / "sweep.json",
        {
            "recipe": recipe.file,
            "select": "validation",
            "metric": next((trial.metric for trial in chosen.values()), None),
            "grid": {axis.path: [change.value for change in axis.changes] for axis in axes},
            "seeds": list(recipe.seeds),
            "chosen": {name: best.record for name, best in chosen.items()},
            "points": {name: [trial.record for trial in of] for name, of in trials.items()},
        },
    )
    screen.result("\nBest validation figure, mean over seeds; test: of the same round; *: chosen")
    screen.result(_table(trials, chosen))
    screen.result(f"Chosen settings: {out / 'sweep.json'}; as recipes: {out / 'best'}")
    return set(chosen)


def _trial(item: Tried, method: str, metric: str | None) -> _Trial:
    point, recipe, jobs = item
    mine = [job for job in jobs if job.method == method]
    runs = [read_run(job.folder) for job in mine if job.folder.is_dir()]
    done = [run for run in runs if run.status == "done"]
    complete = bool(done) and len(done) == len(mine)
    metric = (metric or done[0].metric) if done else None
    return _Trial(
        point,
        recipe,
        method,
        metric,
        _mean([figures(run, f"validation_{metric}")["best"] for run in done]) if complete else None,
        _mean([figures(run, metric or "")["selected"] for run in done]) if complete else None,
        _mean([_seconds(run) for run in done]) if complete else None,
        [str(job.folder) for job in mine],
        [run.status for run in runs] + ["not run"] * (len(mine) - len(runs)),
        sum(int(run.summary.get("failures") or 0) for run in done),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None


def _seconds(run: RunData) -> float | None:
    return run.summary.get("seconds")


def _best(trials: Sequence[_Trial]) -> _Trial | None:
    """The first of the best."""
    known = [(trial, trial.validation) for trial in trials if trial.validation is not None]
    if not known:
        return None
    up = higher_is_better(known[0][0].metric or "")
    return (max if up else min)(known, key=lambda pair: pair[1])[0]


def _table(trials: dict[str, list[_Trial]], chosen: dict[str, _Trial]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for name in ("", "method", "settings", "validation", "test", "time", "status"):
        table.add_column(name, justify="right" if name in ("validation", "test", "time") else "left", overflow="fold")
    for name, of in trials.items():
        for trial in of:
            mark = "*" if chosen.get(name) is trial else ""
            figures_ = (value_text(trial.validation), value_text(trial.test), seconds_text(trial.seconds))
            lost = [f"{plural(trial.failed_replies, 'reply', 'replies')} failed"] if trial.failed_replies else []
            told = ", ".join([*dict.fromkeys(trial.statuses), *lost]) or NONE
            table.add_row(mark, name, trial.point.slug, *figures_, told)
    return table
