"""Looks for a reduction of sub-models' changes that is better than averaging by importance.

Every idea is HeteroFL (nested sub-models) but for what its row says; controls stand beside them. MNIST pooled to 14 x
14, 100 clients, 10 a round, 100 rounds, as in Table 1 at the small scale. Each idea and control has the table's budget
of tuning in each setting: the best of .1, .3 and .6, and of one further rate where the best of these is the lowest or
the highest, by validation accuracy of the served model in the best evaluation of 50 rounds with seed 100. What is
compared is validation accuracy of the server's model at the width that would be served, and of its running average,
each the mean of the last ten evaluations, over seeds 100 to 102 at the chosen rate. Test data are not looked at.

records/submodel_ideas.json is of an earlier search, over all ideas at a rate of .3 in one setting; ``LEADING`` are the
controls and what was ahead there.

Usage: python -m benchmarks.ideas_submodels [--settings k2 k2_weak ...] [--ideas NAME ...] [--seeds 100 101 102]
       [--jobs 2] [--rounds 100] [--out records/submodel_ideas_tuned.json]      (what is in the file is not run again)
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.filling import fill
from benchmarks.reductions_tried import IDEAS, LEADING, Make
from fedsep import Cohort, Evaluate, data, engines, fit, models, tasks
from fedsep.core import Task
from fedsep.paper.table1.scales import SCALES
from fedsep.paper.table1.settings import Setting

SETTINGS = {part.name.removeprefix("mnist_"): part for part in SCALES["small"].settings if part.data == "mnist"}
"""Those of Table 1."""
LAST = 10
LOCAL: dict[str, Any] = {"epochs": 1, "batch_size": 50, "clip": 1.0}
QUARTER = 0.25
"""The share of the units whose sub-model is judged on its client's own classes, where that is asked for."""
TUNED, SEED = 50, 100
"""Rounds and seed of a run that tries a learning rate."""


class Asked(NamedTuple):
    """What is asked for of a run; its record begins with it."""

    setting: str
    idea: str
    seed: int
    rounds: int
    lr: float


def run(setting: str, idea: str, seed: int, rounds: int, rate: float) -> dict[str, Any]:
    """One run of an idea."""
    asked = Asked(setting, idea, seed, rounds, rate)
    return {**asked._asdict(), **measured(IDEAS[idea], SETTINGS[setting], seed, rounds, rate)}


def measured(
    make: Make,
    of: Setting,
    seed: int,
    rounds: int,
    rate: float,
    held: float | None = None,
    *,
    blind: bool = True,
) -> dict[str, float]:
    """A run's means of the last evaluations on validation data, the best served one, and its seconds.

    With ``held`` also the mean and the best of ``own_classes``, of every client's sub-model of this share of the units
    on its own test part. ``blind``: validation data stand in for test data.
    """
    torch.set_num_threads(1)
    began = time.perf_counter()
    fleet, task = problem(of, seed)
    if blind:
        train, validation, _ = fleet.dealt
        fleet = replace(fleet, dealt=(train, validation, validation))
    found = fit(
        make(task, LOCAL | dict(of.arguments) | {"lr": rate}),
        task,
        fleet,
        rounds=rounds,
        seed=seed,
        cohort=Cohort(of.per_round, of.capabilities, draw=of.draw),  # type: ignore[arg-type]
        engine=engines.sequential(),
        evaluate=Evaluate(
            rounds=(*(r for r in of.evaluated if r < rounds), rounds), served=of.levels, held=held, average=0.8
        ),
    )
    return {**told(found.metrics), "seconds": round(time.perf_counter() - began, 1)}


def problem(of: Setting, seed: int) -> tuple[Any, Task]:
    """A setting's clients and task."""
    validation, public = of.held_out
    deal, load = data.classes(of.k, **of.partition), getattr(data, of.data)
    fleet = load(clients=of.clients, partition=deal, validation=validation, public=public, seed=seed)
    how = {name: value for name, value in of.model.items() if name != "use"}
    net = models.small_cnn(fleet.shape, fleet.classes, seed=seed, **how)
    return fleet, tasks.classification(net, shape=fleet.shape)


def told(metrics: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means of the last evaluations, and the best served accuracy, all on validation data."""
    columns = ("validation_served_accuracy", "validation_average_served_accuracy", "validation_served_width")
    rows = [row for row in metrics if columns[0] in row]
    last = rows[-LAST:]
    means = {name: round(sum(row[name] for row in last) / len(last), 4) for name in columns if name in rows[0]}
    best = {"best": max(row[columns[0]] for row in rows)}
    if "client_held_accuracy" in rows[0]:
        means["own_classes"] = round(sum(row["client_held_accuracy"] for row in last) / len(last), 4)
        best["best_own_classes"] = max(row["client_held_accuracy"] for row in rows)
    return {**means, **best}


def wanted(runs: Sequence[Mapping[str, Any]], options: Options, figure: str = "best") -> list[Asked]:
    """The runs that can be made now: of each setting and idea its tries, then a further rate, then all seeds."""
    done = {asked_of(run): run.get(figure, math.nan) for run in runs}
    every = itertools.product(options.settings, options.ideas)
    todo = [asked for setting, idea in every for asked in _next(setting, idea, done, options)]
    return sorted(todo, key=lambda asked: (asked.rounds, asked.seed))  # what others wait for comes first


def _next(setting: str, idea: str, done: Mapping[Asked, float], options: Options) -> list[Asked]:
    of = SETTINGS[setting]
    rates: Sequence[float] = of.tries
    for more in (True, False):
        tries = {rate: Asked(setting, idea, SEED, min(TUNED, options.rounds), rate) for rate in rates}
        if left := [asked for asked in tries.values() if asked not in done]:
            return left
        best = max(rates, key=lambda rate: _finite(done[tries[rate]]))
        rates = (*rates, *of.further(best)) if more else rates
    found = [Asked(setting, idea, seed, options.rounds, best) for seed in options.seeds]
    return [asked for asked in found if asked not in done]


def _finite(figure: float) -> float:
    """A figure to compare with others: one that is not a number is the worst."""
    return figure if math.isfinite(figure) else -math.inf


def asked_of(run: Mapping[str, Any]) -> Asked:
    """What was asked for, of a run that was made."""
    return Asked(*(run[name] for name in Asked._fields))


def chosen(runs: Sequence[Mapping[str, Any]], setting: str, idea: str) -> list[Mapping[str, Any]]:
    """The runs of an idea that count: those in full, at the rate that was chosen."""
    own = [run for run in runs if (run["setting"], run["idea"]) == (setting, idea)]
    return [run for run in own if run["rounds"] == max(each["rounds"] for each in own) > TUNED]


@dataclass(frozen=True)
class Options:
    """What is asked for."""

    settings: tuple[str, ...]
    ideas: tuple[str, ...]
    seeds: tuple[int, ...]
    rounds: int


def search(options: Options, jobs: int, out: Path) -> None:
    """Runs what is asked for and not in the file yet, several at a time; writes as they come."""
    fill(out, _one, lambda runs: wanted(runs, options), jobs)


def _one(asked: Asked) -> dict[str, Any]:
    return run(*asked)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", nargs="*", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--ideas", nargs="*", choices=list(IDEAS), default=list(LEADING))
    parser.add_argument("--seeds", nargs="*", type=int, default=[100, 101, 102])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("records/submodel_ideas_tuned.json"))
    asked = parser.parse_args()
    options = Options(tuple(asked.settings), tuple(asked.ideas), tuple(asked.seeds), asked.rounds)
    search(options, asked.jobs, asked.out)


if __name__ == "__main__":
    main()
