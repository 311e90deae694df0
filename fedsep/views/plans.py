"""Plans: which of a group's units a client is sent. Each is one line; none costs a byte."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from fedsep import random
from fedsep.core import Ctx
from fedsep.models.ranking import in_common

_UNITS = int.from_bytes(b"units", "big")  # what the client's key is folded with to draw units


class Plan(Protocol):
    """Which units a sub-model has, in its order; both ends can tell from the context."""

    def __call__(self, n: int, count: int, group: int, ctx: Ctx) -> Tensor:
        """``count`` different numbers below ``n``, int64, for the group of this number."""
        ...


@dataclass(frozen=True)
class Static:
    """The first units: narrower sub-models lie inside wider ones (HeteroFL, Fjord)."""

    def __call__(self, n: int, count: int, group: int, ctx: Ctx) -> Tensor:
        """0, 1, ..., count - 1."""
        return torch.arange(count, device=ctx.key.device)


@dataclass(frozen=True)
class Rolling:
    """A window that moves by one unit a round and comes round after n (FedRolex)."""

    def __call__(self, n: int, count: int, group: int, ctx: Ctx) -> Tensor:
        """(t + i) mod n for i < count, t the round."""
        return (ctx.round + torch.arange(count, device=ctx.key.device)) % n


@dataclass(frozen=True)
class Random:
    """Units drawn anew for every client and round, from the key that both ends have (Federated Dropout)."""

    def __call__(self, n: int, count: int, group: int, ctx: Ctx) -> Tensor:
        """The beginning of a random order."""
        return random.permutation(random.fold(random.fold(ctx.key, _UNITS), group), n)[:count]


@dataclass(frozen=True)
class KeptRandom:
    """Units drawn once for every client, from the key of its first accepted round, which it reports: 8 bytes, once.

    Attributes:
        common: Weight of the order that all clients have in common, that of the units' numbers, in a client's.
    """

    common: float = 0.0
    keeps_key: ClassVar[bool] = True

    def __call__(self, n: int, count: int, group: int, ctx: Ctx) -> Tensor:
        """As ``Random``, by the key that the client keeps, and by what clients have in common."""
        key = ctx.key if ctx.report is None else ctx.report["key"]
        drawn = Random()(n, n, group, ctx._replace(key=key))
        return in_common({"units": drawn}, self.common)["units"][:count]


@dataclass(frozen=True)
class SharedRandom:
    """Units drawn anew in every round, the same order for all clients.

    Attributes:
        seed: Of the draws.
    """

    seed: int

    def __call__(self, n: int, count: int, group: int, ctx: Ctx) -> Tensor:
        """As ``Random``, by a key that all share."""
        return Random()(n, count, group, ctx._replace(key=random.fold(random.key(self.seed), ctx.round)))
