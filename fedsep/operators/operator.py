"""What a linear operator is: both ends make the same one from a key, and only the key would ever travel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from fedsep.core import FedSepError


class LinearOperator(Protocol):
    """S: R^d -> R^p. ``mv``, ``rmv`` and ``solve`` work on the last axis and accept any batch axes before it."""

    @property
    def shape(self) -> tuple[int, int]:
        """(p, d)."""
        ...

    @property
    def norm(self) -> float:
        """The spectral norm |S|, or an upper bound of it; each operator says which."""
        ...

    @property
    def orthonormal(self) -> bool:
        """Whether S S^T = I, exactly but for rounding."""
        ...

    @property
    def scale(self) -> float:
        """c where S S^T is about c I; 1 for orthonormal rows."""
        ...

    def mv(self, v: Tensor) -> Tensor:
        """S v, shape (..., d) -> (..., p)."""
        ...

    def rmv(self, x: Tensor) -> Tensor:
        """S^T x, shape (..., p) -> (..., d)."""
        ...

    def solve(self, x: Tensor) -> Tensor:
        """(S S^T)^-1 x, shape (..., p); x itself where the rows are orthonormal."""
        ...


MakeOperator = Callable[[int, int, Tensor], LinearOperator]
"""p, d and a key to S."""


def check_shape(p: int, d: int) -> None:
    """Refuses more rows than columns.

    Raises:
        FedSepError: Not 1 <= p <= d.
    """
    if not 1 <= p <= d:
        raise FedSepError(f"p must be between 1 and d = {d}, the number of model parameters (got {p})")
