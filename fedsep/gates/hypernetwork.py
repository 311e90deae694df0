"""Where scores come from: phi, a tree of numbers, to one score for each unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from fedsep import random
from fedsep.core import Params
from fedsep.memo import transforming

_INPUTS = int.from_bytes(b"inputs", "big")  # the same for all clients: the inputs are fixed, and never sent
_DIRECTIONS, _GATES = 2, 3  # forwards and backwards; reset, update, new


class Scores(Protocol):
    """Scores of all units as a function of phi."""

    def init(self, key: Tensor) -> Params:
        """phi before it has been fitted."""
        ...

    def __call__(self, phi: Params) -> dict[str, Tensor]:
        """By group: a score for each unit, larger where it shall rather be kept."""
        ...


@dataclass(frozen=True)
class Free:
    """The simple form: phi is the scores themselves, one free number for each unit.

    Attributes:
        sizes: Number of units of every group.
        spread: Standard deviation of the first scores; NPPM's is 1.
    """

    sizes: Mapping[str, int]
    spread: float = 1.0

    def init(self, key: Tensor) -> Params:
        """Normal numbers."""
        return {group: self.spread * random.normal(random.fold(key, number), n)
                for number, (group, n) in enumerate(self.sizes.items())}  # fmt: skip

    def __call__(self, phi: Params) -> dict[str, Tensor]:
        """phi."""
        return {group: phi[group] for group in self.sizes}


@dataclass(frozen=True)
class Hypernetwork:
    """HN(phi): a network that reads one fixed vector for each group, in their order, and gives the group's scores.

    Fixed orthogonal inputs, a bidirectional GRU, layer normalisation, ReLU, and for each group a linear layer without
    bias whose rows have norms of their own (weight normalisation).

    Attributes:
        sizes: Number of units of every group.
        inputs: Length of the fixed vectors.
        hidden: Length of the GRU's state in each direction.

    Reference:
        Gao et al. 2021 (NPPM, CVPR), Gao et al. 2024 (DWNP, CVPR), whose public code has these sizes.
    """

    sizes: Mapping[str, int]
    inputs: int = 64
    hidden: int = 128

    def init(self, key: Tensor) -> Params:
        """Uniform numbers as torch draws them for a GRU and for linear layers."""
        rows, features = _GATES * self.hidden, _DIRECTIONS * self.hidden
        shapes = {"in.weight": (rows, self.inputs), "state.weight": (rows, self.hidden), "in.bias": (rows,),
                  "state.bias": (rows,)}  # fmt: skip
        phi = {f"gru.{name}": _uniform(random.fold(key, number), self.hidden, _DIRECTIONS, *shape)
               for number, (name, shape) in enumerate(shapes.items())}  # fmt: skip
        phi["norm.weight"], phi["norm.bias"] = torch.ones(features), torch.zeros(features)
        for number, (group, n) in enumerate(self.sizes.items(), start=len(shapes)):
            rows = _uniform(random.fold(key, number), features, n, features)
            phi[f"head.{group}.direction"], phi[f"head.{group}.norm"] = rows, rows.norm(dim=1)
        return phi

    def __call__(self, phi: Params) -> dict[str, Tensor]:
        """The heads' outputs."""
        states = self._gru(phi, _both_ways(len(self.sizes), self.inputs, phi["norm.bias"]))
        features = F.relu(F.layer_norm(states, states.shape[-1:], phi["norm.weight"], phi["norm.bias"]))
        return {group: _head(phi, f"head.{group}", row)
                for group, row in zip(self.sizes, features, strict=True)}  # fmt: skip

    def vectors(self, like: Tensor) -> Tensor:
        """The fixed inputs, shape (groups, inputs): orthonormal rows, or columns where there are more groups."""
        return _both_ways(len(self.sizes), self.inputs, like)[0]

    def _gru(self, phi: Params, both: Tensor) -> Tensor:
        """States of both directions at every group, shape (groups, 2 hidden).

        Written out: so it may be differentiated twice on every device, and is quicker than torch's for few groups.
        """
        given = torch.baddbmm(phi["gru.in.bias"].unsqueeze(1), both, phi["gru.in.weight"].mT)
        bias, weight = phi["gru.state.bias"].unsqueeze(1), phi["gru.state.weight"].mT
        state, states = both.new_zeros(_DIRECTIONS, self.hidden), list[Tensor]()
        for step in given.unbind(1):  # the state begins at 0: nothing is to be multiplied by it
            own = torch.baddbmm(bias, state.unsqueeze(1), weight).squeeze(1) if states else bias.squeeze(1)
            (reset, update, new), (own_reset, own_update, own_new) = step.chunk(_GATES, 1), own.chunk(_GATES, 1)
            keep = torch.sigmoid(update + own_update)
            fresh = torch.tanh(new + torch.sigmoid(reset + own_reset) * own_new)
            state = fresh + keep * (state - fresh)
            states.append(state)
        forwards, backwards = torch.stack(states, 1)
        return torch.cat([forwards, backwards.flip(0)], 1)


def _both_ways(groups: int, inputs: int, like: Tensor) -> Tensor:
    """The fixed inputs and the same from the last to the first.

    They are kept, since the network is evaluated in every step of its fit; not those of a transform, which end with it.
    """
    make = _made.__wrapped__ if transforming() else _made
    return make(groups, inputs, torch.get_default_dtype(), like.dtype, like.device)


@lru_cache(maxsize=32)
def _made(groups: int, inputs: int, drawn: torch.dtype, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``drawn`` is the type in which they are drawn."""
    draws = random.normal(random.key(_INPUTS), groups, inputs).to(device, dtype)
    columns, upper = torch.linalg.qr(draws if groups > inputs else draws.T)
    columns = columns * upper.diagonal().sign()
    vectors = columns if groups > inputs else columns.T
    return torch.stack([vectors, vectors.flip(0)])


def _uniform(key: Tensor, inputs: int, *shape: int) -> Tensor:
    return random.uniform(key, *shape).mul_(2).sub_(1).div_(inputs**0.5)


def _head(phi: Params, head: str, features: Tensor) -> Tensor:
    direction = phi[f"{head}.direction"]
    return (direction @ features) * phi[f"{head}.norm"] / direction.norm(dim=1)
