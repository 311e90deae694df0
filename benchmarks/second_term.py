"""What the second term of Eq. (8) changes: ``fedsep_mask`` with the first term alone, and with both.

The first setting of Table 1 (MNIST pooled to 14 x 14, two classes a client, 100 clients, 10 a round, capabilities from
1 to 1/16 drawn anew every round), at the learning rate that the table chose for ``fedsep_mask`` there. ``first``:
``terms="first"``, the default. ``both``: ``terms="both"``; ``random``: the same, but each client sends a random change
of the second term's length in its place, drawn by its key. Validation accuracy of the served model and of its running
average, mean of the last ten evaluations, seeds 100 to 102. Test data are not looked at.

Usage: python -m benchmarks.second_term [--seeds 100 101 102] [--rounds 100] [--lr RATE] [--jobs 2]
       [--out records/second_term.json]                                    (what is in the file is not run again)
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from benchmarks.filling import Runs, fill
from benchmarks.heterogeneity import RECORD as TABLE
from benchmarks.ideas_submodels import SETTINGS, measured
from benchmarks.reductions_tried import Local
from fedsep import FedSep, algorithms, random, tree
from fedsep.codecs.ranked import Ranked
from fedsep.core import Ctx, Params, Shard, Task
from fedsep.gates.second_term import SecondTerm, Term

RECORD = Path("records/second_term.json")
SETTING = "k2"


class AtRandom(SecondTerm):
    """A random direction of the second term's length."""

    def __call__(self, x: Params, phi: Params, first: Params, shard: Shard, ctx: Ctx) -> Term:
        """The direction, by the client's key."""
        term = super().__call__(x, phi, first, shard, ctx)
        drawn = {name: random.normal(random.fold(ctx.key, 1000 + at), *part.shape).to(part)
                 for at, (name, part) in enumerate(x.items())}  # fmt: skip
        return term._replace(value=tree.scale(drawn, tree.norm(term.value) / tree.norm(drawn)))


def at_random(method: FedSep) -> FedSep:
    """The method with random second terms."""
    codec = method.codec
    assert isinstance(codec, Ranked)
    assert codec.second is not None
    own = {each.name: getattr(codec.second, each.name) for each in fields(codec.second)}
    return replace(method, codec=replace(codec, second=AtRandom(**own)))


def first(task: Task, local: Local) -> FedSep:
    """The first term alone."""
    return algorithms.fedsep_mask(task, terms="first", **local)


def both(task: Task, local: Local) -> FedSep:
    """Both terms."""
    return algorithms.fedsep_mask(task, terms="both", **local)


def with_random(task: Task, local: Local) -> FedSep:
    """Both, but for where the second points."""
    return at_random(both(task, local))


ROWS: dict[str, Callable[[Task, Local], FedSep]] = {"first": first, "both": both, "random": with_random}


def tuned_rate(table: Path = TABLE) -> float:
    """What the table's tuning chose for the method in the setting."""
    record = json.loads((table / f"mnist_{SETTING}_all_tuning.json").read_text())
    [rate] = record["chosen"]["fedsep_mask"]["settings"].values()
    return rate


Asked = tuple[int, str, int, float]
"""Seed, row, rounds and rate of a run."""


def run(asked: Asked) -> dict[str, Any]:
    """One run."""
    seed, row, rounds, rate = asked
    found = measured(ROWS[row], SETTINGS[SETTING], seed, rounds, rate)
    return {"row": row, "seed": seed, "rounds": rounds, "lr": rate, **found}


def compare(todo: list[Asked], jobs: int, out: Path) -> None:
    """Runs what is not in the file yet, several at a time; writes as they come."""

    def left(runs: Runs) -> list[Asked]:
        done = {(one["seed"], one["row"], one["rounds"], one["lr"]) for one in runs}
        return [asked for asked in todo if asked not in done]

    fill(out, run, left, jobs)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", nargs="*", type=int, default=[100, 101, 102])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--lr", type=float, default=None, help="the table's, if it is not given")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RECORD)
    options = parser.parse_args()
    rate = tuned_rate() if options.lr is None else options.lr
    todo = [(seed, row, options.rounds, rate) for seed, row in itertools.product(options.seeds, ROWS)]
    compare(todo, options.jobs, options.out)


if __name__ == "__main__":
    main()
