"""How much of a figure is run: a few seconds, a few hours, or everything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

GRID = (10, 100, 500, 1000, 2000, 5000, 10_000, 20_000)
"""The paper's communication dimensions."""

IID: Mapping[str, Any] = {"use": "fedsep.data.iid"}
TWO: Mapping[str, Any] = {"use": "fedsep.data.classes", "k": 2}
SPLITS: Mapping[str, Mapping[str, Any]] = {"iid": IID, "k2": TWO}
"""Ways to deal the data, by the name of their folder."""

WORDS = {"iid": "i.i.d.", "k2": "2 classes per client"}
"""The same in words."""


@dataclass(frozen=True)
class Scale:
    """What is run of a figure.

    Attributes:
        name: ``smoke``, ``small`` or ``paper``.
        told: In words, for the figure.
        rounds: Of a run.
        every: Rounds between evaluations.
        ps: Communication dimensions.
        splits: Of ``SPLITS``.
        seeds: Of every run.
        more: Further seeds where p is this.
        tune_at: The p at which settings are chosen.
        tune_rounds: Rounds of a run that tries a setting.
        tune_seed: Its seed: none of those that the figure shows.
        tries: Settings tried per method, at most.
        blocks: Blocks of the recipe that are replaced.
        arguments: Arguments of every method that are replaced.
    """

    name: str
    told: str
    rounds: int
    every: int
    ps: tuple[int, ...]
    splits: tuple[str, ...] = ("iid", "k2")
    seeds: tuple[int, ...] = (0,)
    more: Mapping[int, tuple[int, ...]] = field(default_factory=dict[int, tuple[int, ...]])
    tune_at: int = 500
    tune_rounds: int = 50
    tune_seed: int = 100
    tries: int = 3
    blocks: Mapping[str, Any] = field(default_factory=dict[str, Any])
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def seeds_at(self, p: int | None) -> tuple[int, ...]:
        """Seeds at p; without p those of the p that has most."""
        most = max((self.more.get(each, ()) for each in self.ps), key=len)
        return (*self.seeds, *(most if p is None else self.more.get(p, ())))


DIGITS: Mapping[str, Any] = {
    "data": {"use": "fedsep.data.digits", "clients": 10, "partition": IID, "validation": 200},
    "model": {"use": "fedsep.models.mlp", "hidden": [16]},
    "engine": {"use": "fedsep.engines.sequential"},
}
"""The stage on which ``smoke`` plays: 8 x 8 digits and a model of 1,210 parameters."""

_SMOKE = Scale(
    name="smoke",
    told="smoke: a few rounds on 8 x 8 digits, which shows that everything runs and nothing else",
    rounds=2,
    every=2,
    ps=(10, 50),
    tune_at=50,
    tune_rounds=1,
    tries=2,
    blocks=DIGITS,
    arguments={"steps": 2, "batch_size": 16},
)
_PAPER = Scale("paper", "paper: the full grid, 200 rounds, three seeds", 200, 10, GRID, seeds=(0, 1, 2))
_SMALL = Scale(
    "small", "small: 100 rounds, one seed, three at p = 500", 100, 5, (100, 500, 2000, 10_000), more={500: (1, 2)}
)
_SMALL_CIFAR = Scale("small", "small: 100 rounds, one seed, i.i.d. only", 100, 5, (500, 5000), splits=("iid",))

SCALES: Mapping[str, Mapping[str, Scale]] = {
    "fig2": {"smoke": _SMOKE, "small": _SMALL, "paper": _PAPER},
    "fig3": {"smoke": _SMOKE, "small": _SMALL_CIFAR, "paper": _PAPER},
}
"""The scales of each figure."""
