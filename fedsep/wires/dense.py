"""The plain wire: every number, in the float type of choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fedsep.core import Ctx, Payload, Tree
from fedsep.ranges import checked
from fedsep.tree import map as map_leaves
from fedsep.wires.promises import Contraction, Exact, Lossy

Precision = Literal["float32", "float16", "bfloat16"]


@dataclass(frozen=True)
class Dense:
    """See ``dense``; ``dtype`` None sends floats as they are, and so does what is named in ``exact``."""

    dtype: torch.dtype | None = None
    exact: tuple[str, ...] = ()

    def init(self, like: Tree) -> tuple[()]:
        """Nothing is remembered."""
        return ()

    def pack(self, tree: Tree, memory: tuple[()], ctx: Ctx) -> tuple[Payload, tuple[()]]:
        """The tree with its floats in ``dtype``."""
        return self.round(tree), memory

    def unpack(self, payload: Payload, like: Tree, ctx: Ctx) -> Tree:
        """Floats in the dtype of ``like``, or in the default float type where ``like`` is None."""
        if self.dtype is None:
            return payload
        if like is None:
            return map_leaves(lambda part: _cast(part, torch.get_default_dtype()), payload)
        return map_leaves(lambda part, model: _cast(part, model.dtype), payload, like)

    def round(self, tree: Tree) -> Tree:
        """What the receiver will read, still in the wire's dtype."""
        if self.dtype is None:
            return tree
        if self.exact and isinstance(tree, dict):
            return {name: part if name in self.exact else self._cast(part) for name, part in tree.items()}
        return self._cast(tree)

    def promise(self, size: int) -> Exact | Contraction | Lossy:
        """The relative rounding error of the dtype; float16 keeps none below 6e-5 and above 65504."""
        if self.dtype is None:
            return Exact()
        if self.dtype == torch.float16:
            return Lossy()
        return Contraction(1 - (torch.finfo(self.dtype).eps / 2) ** 2)

    def _cast(self, tree: Tree) -> Tree:
        return map_leaves(lambda part: _cast(part, self.dtype), tree)


def _cast(part: Tensor, dtype: torch.dtype | None) -> Tensor:
    return part.to(dtype) if part.is_floating_point() else part


def as_sent(values: Precision | None) -> Dense:
    """``dense`` in a float type, or numbers as they are."""
    return Dense(None if values is None else getattr(torch, values))


@checked
def dense(*, dtype: Precision = "float32") -> Dense:
    """Sends every number as it is, or rounded to a shorter float type.

    Bytes:
        4 a number in float32, 2 in float16 and bfloat16.

    Args:
        dtype: float16 has 11 significant bits and the range 6e-8 .. 65504; bfloat16 has 8 and float32's range.
    """
    return Dense(getattr(torch, dtype))
