"""The largest coordinates and where they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fedsep.core import Ctx, Payload, Tree, Wire
from fedsep.ranges import Count, Fraction, checked
from fedsep.wires.dense import Dense
from fedsep.wires.indices import IndexCode, IndexName, Int32, index_code, require_places
from fedsep.wires.kept import kept, one_of
from fedsep.wires.message import blank, inside, layout_of, require_memoryless, scattered, vector_of
from fedsep.wires.per_tensor import Per, PerTensor
from fedsep.wires.promises import Promise, keep_part, promise_of

_KEY = 7301


@dataclass(frozen=True)
class TopK:
    """See ``topk``; one of ``k`` and ``fraction`` is given."""

    k: int | None = None
    fraction: float | None = None
    values: Wire[Any] = field(default_factory=Dense)
    index: IndexCode = field(default_factory=Int32)

    def count(self, size: int) -> int:
        """How many of ``size`` coordinates are sent.

        Raises:
            FedSepError: There are fewer than k.
        """
        return kept("topk", self.k, self.fraction, size)

    def init(self, like: Tree) -> tuple[()]:
        """Nothing is remembered."""
        layout = layout_of(self, like)
        require_memoryless(self, self.values, blank(self.count(layout.size), layout))
        return ()

    def pack(self, tree: Tree, memory: tuple[()], ctx: Ctx) -> tuple[Payload, tuple[()]]:
        """Positions and values of the k coordinates of largest magnitude."""
        vector, _ = vector_of(self, tree)
        places = largest(vector, self.count(vector.numel()))
        values, _ = self.values.pack(vector[places], (), inside(ctx, _KEY))
        return {"index": self.index.pack(places, vector.numel()), "values": values}, memory

    def unpack(self, payload: Payload, like: Tree, ctx: Ctx) -> Tree:
        """The values in their places, 0 elsewhere."""
        layout = layout_of(self, like)
        count = self.count(layout.size)
        places = self.index.unpack(payload["index"], count, layout.size)
        require_places(places, count, layout.size)
        values = self.values.unpack(payload["values"], blank(count, layout), inside(ctx, _KEY))
        return scattered(values, places, layout)

    def promise(self, size: int) -> Promise:
        """A contraction with delta = k/n, times that of the values."""
        count = self.count(size)
        part = self.fraction if self.fraction is not None else count / max(size, 1)
        return keep_part(promise_of(self.values, count), part)


def largest(vector: Tensor, count: int) -> Tensor:
    """Positions of the ``count`` numbers of largest magnitude, increasing, int64."""
    return torch.topk(vector.abs(), count, sorted=False).indices.sort().values


@checked
def topk(
    k: Count | None = None,
    *,
    fraction: Fraction | None = None,
    per: Per = "global",
    values: Wire[Any] | None = None,
    index: IndexName = "int32",
) -> TopK | PerTensor:
    """The k coordinates of largest magnitude, and where they are. Use it with error feedback.

    Args:
        k: How many coordinates are sent, at most as many as there are.
        fraction: The same as a part of all coordinates, rounded up; give one of the two.
        per: ``global`` compares all coordinates of a message; ``tensor`` sends k (or the fraction) of each tensor.
        values: The wire of the k values; plain by default. ``sign()`` makes it sparse ternary compression.
        index: How positions are coded: ``int32``, ``packed`` (ceil(log2 n) bits each) or ``golomb`` (Golomb-Rice
            on the gaps: about log2(n/k) + 1.5 bits each).

    Bytes:
        4 * k for the positions as int32 (ceil(k * ceil(log2(n)) / 8) packed; with golomb it depends on them), and
        those of ``values``: 4 * k in float32.

    Reference:
        Stich et al. 2018, arXiv:1809.07599; Sattler et al. 2019, arXiv:1903.02891 (sign values, Golomb positions).
    """
    one_of("topk", k, fraction)
    wire = TopK(k, fraction, values or Dense(), index_code(index))
    return PerTensor(wire) if per == "tensor" else wire
