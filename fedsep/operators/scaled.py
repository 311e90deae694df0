"""A multiple of an operator."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fedsep.core import FedSepError
from fedsep.operators.gaussian import gaussian
from fedsep.operators.operator import LinearOperator, MakeOperator


@dataclass(frozen=True)
class Scaled:
    """factor S."""

    inner: LinearOperator
    factor: float

    @property
    def shape(self) -> tuple[int, int]:
        """(p, d)."""
        return self.inner.shape

    @property
    def norm(self) -> float:
        """|factor| times the inner operator's norm, or its bound."""
        return abs(self.factor) * self.inner.norm

    @property
    def orthonormal(self) -> bool:
        """Only with factor 1 or -1."""
        return self.inner.orthonormal and abs(self.factor) == 1

    @property
    def scale(self) -> float:
        """factor^2 times the inner operator's."""
        return self.factor**2 * self.inner.scale

    def mv(self, v: Tensor) -> Tensor:
        """factor S v."""
        return self.factor * self.inner.mv(v)

    def rmv(self, x: Tensor) -> Tensor:
        """factor S^T x."""
        return self.factor * self.inner.rmv(x)

    def solve(self, x: Tensor) -> Tensor:
        """(S S^T)^-1 x / factor^2."""
        return self.inner.solve(x) / self.factor**2


def scaled(*, factor: float, operator: MakeOperator = gaussian) -> MakeOperator:
    """A factory of ``factor`` times what another factory makes.

    Args:
        factor: Any number but 0.
        operator: Makes the operator from p, d and a key.

    Raises:
        FedSepError: The factor is 0.
    """
    if factor == 0:
        raise FedSepError("factor must not be 0: S would lose everything")
    return lambda p, d, key: Scaled(operator(p, d, key), factor)
