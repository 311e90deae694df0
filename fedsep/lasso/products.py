"""What LASSO needs of S: products, and columns where they can be had."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from fedsep import random


class Products(Protocol):
    """What the solvers need of S, of shape (p, d)."""

    def mv(self, v: Tensor) -> Tensor:
        """S v, shape (..., d) -> (..., p)."""
        ...

    def rmv(self, x: Tensor) -> Tensor:
        """S^T x, shape (..., p) -> (..., d)."""
        ...


@runtime_checkable
class Columns(Products, Protocol):
    """An operator whose columns can be had without a product."""

    def columns(self, index: Tensor) -> Tensor:
        """S_A, shape (p, |A|), for int64 positions A."""
        ...


@dataclass(frozen=True)
class Matrix:
    """A matrix as it is, shape (p, d)."""

    rows: Tensor

    def mv(self, v: Tensor) -> Tensor:
        """S v."""
        return v @ self.rows.mT

    def rmv(self, x: Tensor) -> Tensor:
        """S^T x."""
        return x @ self.rows

    def columns(self, index: Tensor) -> Tensor:
        """S_A."""
        return self.rows.index_select(1, index)  # the same as rows[:, index], several times as fast


@dataclass(frozen=True)
class Masked:
    """S_A without gathering it: products with all of S.

    Attributes:
        sketch: S, of shape (p, d).
        index: A.
        d: Columns of S.
    """

    sketch: Products
    index: Tensor
    d: int

    def mv(self, v: Tensor) -> Tensor:
        """S_A v, shape (|A|,) -> (p,)."""
        return self.sketch.mv(v.new_zeros(self.d).index_copy(0, self.index, v))

    def rmv(self, x: Tensor) -> Tensor:
        """S_A^T x, shape (p,) -> (|A|,)."""
        return self.sketch.rmv(x)[self.index]


FEW = 0.25
"""Of the columns: to gather more than that costs more than it saves."""


def restricted(sketch: Products, index: Tensor, d: int) -> Products:
    """S_A, gathered where it has few columns and S has them to be gathered."""
    if isinstance(sketch, Columns) and len(index) <= FEW * d:
        return Matrix(sketch.columns(index))
    return Masked(sketch, index, d)


def squared_norm(sketch: Products, d: int, *, steps: int = 40) -> float:
    """|S|^2, the largest eigenvalue of S^T S, from below, by Lanczos's iteration from a fixed vector.

    It takes the best of all vectors that as many power iterations visit.

    Args:
        sketch: S.
        d: Its number of columns.
        steps: At most so many products with S^T S.
    """
    v = random.normal(random.key(d), d)
    before, v, beside = torch.zeros_like(v), v / v.norm(), v.new_zeros(())
    diagonal, sides = list[Tensor](), list[Tensor]()
    for _ in range(min(steps, d)):
        u = sketch.mv(v)
        diagonal.append(u @ u)
        following = sketch.rmv(u) - beside * before - diagonal[-1] * v
        beside = following.norm()
        sides.append(beside)
        if not bool(beside > 1e-6 * diagonal[0]):
            break  # every direction that there is has been visited
        before, v = v, following / beside
    side = torch.diag(torch.stack(sides)[:-1], 1) if len(sides) > 1 else 0.0
    # eigvalsh reads the upper triangle alone: the other one is the same.
    return float(torch.linalg.eigvalsh(torch.diag(torch.stack(diagonal)) + side, UPLO="U")[-1])
