"""One operator after another: a cheap one shortens the vector, a thorough one mixes what is left."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fedsep import random
from fedsep.core import FedSepError
from fedsep.operators.cg import solve_gram
from fedsep.operators.gaussian import gaussian
from fedsep.operators.operator import LinearOperator, MakeOperator, check_shape
from fedsep.operators.sparse_signs import sparse_signs
from fedsep.ranges import Count


@dataclass(frozen=True)
class Composed:
    """S = outer inner."""

    outer: LinearOperator
    inner: LinearOperator

    @property
    def shape(self) -> tuple[int, int]:
        """(p, d)."""
        return self.outer.shape[0], self.inner.shape[1]

    @property
    def norm(self) -> float:
        """The product of both norms: an upper bound."""
        return self.outer.norm * self.inner.norm

    @property
    def orthonormal(self) -> bool:
        """Where both are."""
        return self.outer.orthonormal and self.inner.orthonormal

    @property
    def scale(self) -> float:
        """The product of both."""
        return self.outer.scale * self.inner.scale

    def mv(self, v: Tensor) -> Tensor:
        """S v."""
        return self.outer.mv(self.inner.mv(v))

    def rmv(self, x: Tensor) -> Tensor:
        """S^T x."""
        return self.inner.rmv(self.outer.rmv(x))

    def solve(self, x: Tensor) -> Tensor:
        """(S S^T)^-1 x, by conjugate gradients unless the rows are orthonormal."""
        return x if self.orthonormal else solve_gram(self, x)


def composed(*, between: Count, outer: MakeOperator = gaussian, inner: MakeOperator = sparse_signs) -> MakeOperator:
    """A factory of S = outer inner; each has a key of its own.

    Args:
        between: Rows of ``inner``, columns of ``outer``: at least p, at most d.
        outer: Makes the operator that is applied last.
        inner: Makes the operator that is applied first.
    """

    def make(p: int, d: int, key: Tensor) -> Composed:
        check_shape(p, d)
        if not p <= between <= d:
            raise FedSepError(f"between must be between p = {p} and d = {d} (got {between})")
        return Composed(outer(p, between, random.fold(key, 1)), inner(between, d, random.fold(key, 0)))

    return make
