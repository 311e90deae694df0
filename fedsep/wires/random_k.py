"""Random coordinates that both ends know, each client its own or all the same: no positions travel."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fedsep import random
from fedsep.core import Ctx, Payload, Tree, Wire
from fedsep.ranges import Count, Fraction, checked
from fedsep.wires.dense import Dense
from fedsep.wires.kept import kept, one_of
from fedsep.wires.message import blank, inside, layout_of, require_memoryless, scattered, vector_of
from fedsep.wires.promises import Exact, Lossy, Promise, Unbiased, keep_part, promise_of

_KEY = 7303
_VALUES_KEY = 7304


@dataclass(frozen=True)
class RandomK:
    """See ``random_k``; one of ``k`` and ``fraction`` is given."""

    k: int | None = None
    fraction: float | None = None
    values: Wire[Any] = field(default_factory=Dense)
    unbiased: bool = False
    shared: int | None = None

    def count(self, size: int) -> int:
        """How many of ``size`` coordinates are sent.

        Raises:
            FedSepError: There are fewer than k.
        """
        return kept("random_k", self.k, self.fraction, size)

    def init(self, like: Tree) -> tuple[()]:
        """Nothing is remembered."""
        layout = layout_of(self, like)
        require_memoryless(self, self.values, blank(self.count(layout.size), layout))
        return ()

    def pack(self, tree: Tree, memory: tuple[()], ctx: Ctx) -> tuple[Payload, tuple[()]]:
        """The values of the round's coordinates."""
        vector, _ = vector_of(self, tree)
        chosen = vector[self._places(vector.numel(), ctx).to(vector.device)]
        return self.values.pack(chosen * self._factor(vector.numel()), (), inside(ctx, _VALUES_KEY))[0], memory

    def unpack(self, payload: Payload, like: Tree, ctx: Ctx) -> Tree:
        """The values in their places, 0 elsewhere."""
        layout = layout_of(self, like)
        places = self._places(layout.size, ctx).to(layout.device)
        values = self.values.unpack(payload, blank(places.numel(), layout), inside(ctx, _VALUES_KEY))
        return scattered(values, places, layout)

    def promise(self, size: int) -> Promise:
        """Scaled: unbiased with omega = (1 + omega of the values) n/k - 1. Not scaled: delta = k/n times theirs.

        With a shared support a client's key decides nothing, and a round may miss the whole message: the mean is
        over rounds, which is less than a promise.
        """
        count = self.count(size)
        inner = promise_of(self.values, count)
        fixed = self.shared is not None and count < size
        if not self.unbiased:
            return keep_part(inner, 0.0 if fixed else count / max(size, 1))
        if fixed or not isinstance(inner, Exact | Unbiased):
            return Lossy()
        return Unbiased((1 + (inner.omega if isinstance(inner, Unbiased) else 0.0)) * size / max(count, 1) - 1)

    def _factor(self, size: int) -> float:
        return size / max(self.count(size), 1) if self.unbiased else 1.0

    def _places(self, size: int, ctx: Ctx) -> Tensor:
        """Increasing; the draws at different counters of a key are all different, so there are no ties."""
        key = ctx.key if self.shared is None else random.fold(random.key(self.shared), ctx.round)
        draws = random.bits(random.fold(key, _KEY), size)
        return torch.topk(draws, self.count(size), sorted=False).indices.sort().values


@checked
def random_k(
    k: Count | None = None,
    *,
    fraction: Fraction | None = None,
    values: Wire[Any] | None = None,
    unbiased: bool = False,
    shared: int | None = None,
) -> RandomK:
    """k coordinates, chosen at random in every round from a key that both ends have.

    Every client has coordinates of its own, or, with ``shared``, all have the same. Own: up to M k coordinates of the
    mean of M clients move in a round, and the noise of the choice falls as 1/M. Shared: the mean has k coordinates,
    exact on them and 0 elsewhere, whatever M is; it can be added up, or sent down again, as k numbers.

    With few-bit values this is fewer than one bit a coordinate: ``random_k(fraction=0.5, values=lloyd_max())``.

    Args:
        k: How many coordinates are sent, at most as many as there are.
        fraction: The same as a part of all coordinates, rounded up; give one of the two.
        values: The wire of the k values; plain by default.
        unbiased: Scales the values by n/k: unbiased, and not for use with error feedback. Otherwise they stay as
            they are: a contraction, for use with error feedback.
        shared: Seed from which, with the number of the round, the coordinates of all clients are drawn. None: from
            the key of the client and round.

    Bytes:
        Those of ``values``: 4 * k in float32. No positions travel.

    Reference:
        Stich et al. 2018, arXiv:1809.07599; Konečný et al. 2016, arXiv:1610.05492.
    """
    one_of("random_k", k, fraction)
    return RandomK(k, fraction, values or Dense(), unbiased, shared)
