"""Looks for a personal mask whose quarter model is better on its client's own classes than what rolls or draws.

Every idea is ``fedsep_mask`` but for what its row says; the methods that it is to beat stand beside it, and HeteroFL,
which is all in common. MNIST pooled to 14 x 14, 100 clients, 10 a round, 100 rounds, as in Table 1 at the small scale.
What is compared is the accuracy of each client's sub-model of a quarter of the units on its own validation part, among
its own classes, the mean of the last ten evaluations. Validation data take the place of test data, which are not looked
at.

Usage: python -m benchmarks.ideas_personal [--settings k2 k2_weak ...] [--ideas NAME ...] [--seeds 100] [--rates 0.3]
       [--jobs 2] [--rounds 100] [--out records/personal_ideas.json]      (what is in the file is not run again)
"""

from __future__ import annotations

import argparse
import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.filling import fill
from benchmarks.ideas_submodels import QUARTER, SETTINGS, Asked, asked_of, measured
from benchmarks.reductions_tried import Make, plain
from fedsep import random
from fedsep.core import Params, Task
from fedsep.gates import gate_scores
from fedsep.models.units import Units


def _gates(**how: Any) -> Any:
    return functools.partial(gate_scores, **how)


@dataclass(frozen=True)
class OneStart:
    """phi that starts alike at all clients, in all rounds."""

    network: Any

    def init(self, key: Tensor) -> Params:
        """That of one key."""
        return self.network.init(random.key(0))

    def __call__(self, phi: Params) -> dict[str, Tensor]:
        """The network's."""
        return self.network(phi)


def one_start(task: Task, units: Units, classes: int | None) -> Any:
    """Gates whose first ranking is the same for all."""
    made = gate_scores(task, units, classes)
    return replace(made, network=OneStart(made.network))


IDEAS: dict[str, Make] = {
    "fedrolex": plain("fedrolex"),
    "federated dropout": plain("federated_dropout"),
    "heterofl": plain("heterofl"),
    "gates": plain("fedsep_mask"),
    "taylor": plain("fedsep_mask", scores="taylor"),
    "activation": plain("fedsep_mask", scores="activation"),
    "activation, importance": plain("fedsep_mask", scores="activation", reduce="importance"),
    "free gates": plain("fedsep_mask", scores=_gates(form="free")),
    "gates from one start": plain("fedsep_mask", scores=one_start),
    "gates on the held part": plain("fedsep_mask", scored_on="held"),
    "taylor on the held part": plain("fedsep_mask", scores="taylor", scored_on="held"),
    "gates, half in common": plain("fedsep_mask", common=0.5),
    "gates, three quarters in common": plain("fedsep_mask", common=0.75),
    "taylor, three quarters in common": plain("fedsep_mask", scores="taylor", common=0.75),
    "gates, seven eighths in common": plain("fedsep_mask", common=0.875),
}  # fmt: skip
"""What is tried, and what it is to beat."""


def run(asked: Asked) -> dict[str, Any]:
    """One run."""
    setting, idea, *how = asked
    return {**asked._asdict(), **measured(IDEAS[idea], SETTINGS[setting], *how, QUARTER)}


def wanted(runs: Sequence[Mapping[str, Any]], every: Sequence[Asked]) -> list[Asked]:
    """What is not in the file yet."""
    done = {asked_of(run) for run in runs}
    return [asked for asked in every if asked not in done]


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", nargs="*", choices=list(SETTINGS), default=["k5"])
    parser.add_argument("--ideas", nargs="*", choices=list(IDEAS), default=list(IDEAS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[100])
    parser.add_argument("--rates", nargs="*", type=float, default=[0.3])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("records/personal_ideas.json"))
    asked = parser.parse_args()
    parts = itertools.product(asked.settings, asked.ideas, asked.seeds, [asked.rounds], asked.rates)
    every = [Asked(*each) for each in parts]
    fill(asked.out, run, lambda runs: wanted(runs, every), asked.jobs)


if __name__ == "__main__":
    main()
