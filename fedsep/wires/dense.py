"""The plain wire: every number, in the float type of choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fedsep import tree
from fedsep.core import Ctx, Payload, Tree

Precision = Literal["float32", "float16", "bfloat16"]


@dataclass(frozen=True)
class Dense:
    """See ``dense``; ``dtype`` None sends floats as they are."""

    dtype: torch.dtype | None = None

    def init(self, like: Tree) -> tuple[()]:
        """Nothing is remembered."""
        return ()

    def pack(self, tree_: Tree, memory: tuple[()], ctx: Ctx) -> tuple[Payload, tuple[()]]:
        """The tree with its floats in ``dtype``."""
        return self.round(tree_), memory

    def unpack(self, payload: Payload, like: Tree, ctx: Ctx) -> Tree:
        """Floats in the dtype of ``like``, or in the default float type where ``like`` is None."""
        if self.dtype is None:
            return payload
        if like is None:
            return tree.map(lambda part: _cast(part, torch.get_default_dtype()), payload)
        return tree.map(lambda part, model: _cast(part, model.dtype), payload, like)

    def round(self, tree_: Tree) -> Tree:
        """What the receiver will read, still in the wire's dtype."""
        return tree_ if self.dtype is None else tree.map(lambda part: _cast(part, self.dtype), tree_)


def _cast(part: Tensor, dtype: torch.dtype | None) -> Tensor:
    return part.to(dtype) if part.is_floating_point() else part


def dense(*, dtype: Precision = "float32") -> Dense:
    """Sends every number as it is, or rounded to a shorter float type.

    Bytes:
        4 a number in float32, 2 in float16 and bfloat16.

    Args:
        dtype: float16 has 11 significant bits and the range 6e-8 .. 65504; bfloat16 has 8 and float32's range.
    """
    return Dense(getattr(torch, dtype))
