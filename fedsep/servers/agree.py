"""The server's steps of Flash: first the layers' densities and new random masks, then sparse averaging."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fedsep import random
from fedsep.codecs.agreeing import Agreeing
from fedsep.core import Params, Tree, Update
from fedsep.servers.reduce import mean
from fedsep.servers.sparse_mean import SparseMean, Tally, ranked, voted
from fedsep.sparsity.density import filled, quotas
from fedsep.sparsity.masks import masked, random_masks

_FIRST, _TIES = 8301, 8302  # what the shared key is folded with


@dataclass(frozen=True)
class AgreeThen:
    """d_l <- mean of the clients' layer densities, scaled to the density of the whole; random masks; the start anew.

    Afterwards: ``server``.

    Attributes:
        start: The initial model, to which the server returns.
        layers: Names of the sparse layers.
        density: Of all of them together.
        key: Of the random masks.
        server: The second stage's.
    """

    start: Params
    layers: tuple[str, ...]
    density: float
    key: Tensor
    server: SparseMean

    def init(self, x: Agreeing) -> tuple[()]:
        """Nothing is remembered."""
        return ()

    def step(self, x: Agreeing, updates: Iterable[Update], state: tuple[()]) -> tuple[Any, tuple[()]]:
        """x after the round; with no updates, x as it was."""
        if x["agreed"]:
            return self.server.step(x, updates, state)
        change = mean(updates)
        if change is None:
            return x, state
        densities = rescaled((x["density"] + change["density"]).tolist(), self._sizes(), self.density)
        chosen = random_masks(self.start, self.layers, quotas(densities, self._sizes()), random.fold(self.key, _FIRST))
        parts: dict[str, Tree] = {"mask": chosen, "density": x["density"].new_tensor(densities)}
        agreed = {"model": masked(self.start, chosen), "since": x["round"] + 1, "agreed": torch.ones_like(x["agreed"])}
        return {**x, **parts, **agreed}, state

    def _sizes(self) -> list[int]:
        return [self.start[name].numel() for name in self.layers]


def rescaled(densities: Sequence[float], sizes: Sequence[int], density: float) -> list[float]:
    """min(1, c d_l), with c such that ``density`` of all coordinates is kept."""
    numbers = range(len(sizes))
    each = filled(dict(zip(numbers, densities, strict=True)), dict(zip(numbers, sizes, strict=True)), density)
    return [each[number] for number in numbers]


@dataclass(frozen=True)
class TopWeights:
    """After every round the largest weights of each layer; every ``every`` rounds the layers' densities, too.

    Attributes:
        layers: Names of the sparse layers.
        density: Of all of them together.
        every: Rounds from one look at the densities of the clients' masks to the next.
        key: Chooses among weights that are level, which are mostly zeros.
    """

    layers: tuple[str, ...]
    density: float
    every: int
    key: Tensor

    def __call__(self, x: Agreeing, model: Params, tally: Tally) -> dict[str, Tree]:
        """The next masks, and the densities they were made with."""
        sizes = [model[name].numel() for name in self.layers]
        density: list[float] = x["density"].tolist()
        if int(x["round"]) % self.every == 0:
            votes = [float(tally.votes[name].sum()) / tally.clients for name in self.layers]
            density = rescaled([held / size for held, size in zip(votes, sizes, strict=True)], sizes, self.density)
        kept = dict(zip(self.layers, quotas(density, sizes), strict=True))
        key = random.fold(random.fold(self.key, _TIES), x["round"])
        then = {name: random.uniform(random.fold(key, n), *model[name].shape).to(model[name].device)
                for n, name in enumerate(self.layers)}  # fmt: skip
        masks = ranked(model, voted(x, tally), kept, then)
        return {"mask": masks, "density": x["density"].new_tensor(density)}
