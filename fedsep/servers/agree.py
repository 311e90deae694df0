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

    x keeps c d_l as it is, above 1 too: how dense layers are beside one another counts for clients who hold less.

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
        found, sizes = (x["density"] + change["density"]).tolist(), self._sizes()
        held = quotas(rescaled(found, sizes, self.density), sizes)
        chosen = random_masks(self.start, self.layers, held, random.fold(self.key, _FIRST))
        parts: dict[str, Tree] = {"mask": chosen, "density": x["density"].new_tensor(level(found, sizes, self.density))}
        agreed = {"model": masked(self.start, chosen), "since": x["round"] + 1, "agreed": torch.ones_like(x["agreed"])}
        return {**x, **parts, **agreed}, state

    def _sizes(self) -> list[int]:
        return [self.start[name].numel() for name in self.layers]


def rescaled(densities: Sequence[float], sizes: Sequence[int], density: float) -> list[float]:
    """min(1, c d_l), with c such that ``density`` of all coordinates is kept."""
    numbers = range(len(sizes))
    each = filled(dict(zip(numbers, densities, strict=True)), dict(zip(numbers, sizes, strict=True)), density)
    return [each[number] for number in numbers]


def level(densities: Sequence[float], sizes: Sequence[int], density: float) -> list[float]:
    """c d_l, with c such that ``density`` of all coordinates would be kept if layers could be denser than 1."""
    factor = density * sum(sizes) / sum(each * size for each, size in zip(densities, sizes, strict=True))
    return [factor * each for each in densities]


@dataclass(frozen=True)
class Agreed:
    """A client's layers are as dense beside one another as was agreed.

    Attributes:
        layers: Names of the sparse layers.
        density: Of the server's model.
    """

    layers: tuple[str, ...]
    density: float

    def __call__(self, x: Agreeing, share: float) -> list[float]:
        """min(1, c d_l) with c such that the client holds its share."""
        sizes = [x["model"][name].numel() for name in self.layers]
        return rescaled(x["density"].tolist(), sizes, self.density * share)


@dataclass(frozen=True)
class TopWeights:
    """After every round the largest weights of each layer; every ``every`` rounds the layers' densities, too.

    Attributes:
        layers: Names of the sparse layers.
        density: Of all of them together.
        every: Rounds from one look at the densities of the clients' masks to the next; 0: they stay as agreed.
        key: Chooses among weights that are level, which are mostly zeros.
    """

    layers: tuple[str, ...]
    density: float
    every: int
    key: Tensor

    def __call__(self, x: Agreeing, model: Params, tally: Tally) -> dict[str, Tree]:
        """The next masks, and the densities from which they are made."""
        sizes = [model[name].numel() for name in self.layers]
        density: list[float] = x["density"].tolist()
        if self.every and int(x["round"]) % self.every == 0:
            votes = [float(tally.votes[name].sum()) / tally.clients for name in self.layers]
            density = level([held / size for held, size in zip(votes, sizes, strict=True)], sizes, self.density)
        kept = dict(zip(self.layers, quotas(rescaled(density, sizes, self.density), sizes), strict=True))
        key = random.fold(random.fold(self.key, _TIES), x["round"])
        then = {name: random.uniform(random.fold(key, n), *model[name].shape).to(model[name].device)
                for n, name in enumerate(self.layers)}  # fmt: skip
        masks = ranked(model, voted(x, tally), kept, then)
        return {"mask": masks, "density": x["density"].new_tensor(density)}
