"""Dense Gaussian matrices from a key, stored."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsep import random
from fedsep.core import FedSepError
from fedsep.operators.operator import check_shape
from fedsep.operators.remember import remembered

_BLOCK = 1 << 15  # counters drawn at a time: the intermediate vectors stay in the cache
_LARGEST = 1 << 31  # bytes of a stored operator


@dataclass(frozen=True)
class Gaussian:
    """A stored p x d matrix, as drawn or its rows made orthonormal.

    Near p = d the condition of S S^T is that of S squared, beyond what float32 can invert: there it is factorised, and
    solved with, in float64.

    Attributes:
        rows: As drawn; of ``exact`` ones orthonormal already.
        orthonormal: Whether the rows of S are.
        exact: Whether those of ``rows`` are.
    """

    rows: Tensor
    orthonormal: bool
    exact: bool = False

    @functools.cached_property
    def whiten(self) -> Tensor | None:
        """W with W rows rows^T W^T = I, or None if the rows are orthonormal; made when it is first needed."""
        rows = self.rows if _well_conditioned(*self.shape) else self.rows.double()
        return None if self.exact else _whiten(rows)

    @property
    def shape(self) -> tuple[int, int]:
        """(p, d)."""
        return self.rows.shape[0], self.rows.shape[1]

    @property
    def norm(self) -> float:
        """|S|: 1 with orthonormal rows, else computed from S S^T whenever it is asked for."""
        return 1.0 if self.orthonormal else float(torch.linalg.eigvalsh(self.rows @ self.rows.mT)[-1].sqrt())

    @property
    def scale(self) -> float:
        """1 with orthonormal rows, else d / p: the entries have variance 1 / p."""
        return 1.0 if self.orthonormal else self.shape[1] / self.shape[0]

    def mv(self, v: Tensor) -> Tensor:
        """S v."""
        u = v @ self.rows.mT
        return u @ self.whiten.mT if self.orthonormal and self.whiten is not None else u

    def rmv(self, x: Tensor) -> Tensor:
        """S^T x."""
        return (x @ self.whiten if self.orthonormal and self.whiten is not None else x) @ self.rows

    def solve(self, x: Tensor) -> Tensor:
        """(S S^T)^-1 x."""
        if self.orthonormal or self.whiten is None:
            return x
        return (x.to(self.whiten.dtype) @ self.whiten.mT @ self.whiten).to(x.dtype)


@remembered
def gaussian(p: int, d: int, key: Tensor, *, orthonormal: bool = True) -> Gaussian:
    """A dense Gaussian matrix from a key, stored; the last two are kept for whoever asks again.

    With orthonormal rows S = W A, A with standard normal entries and W the inverse Cholesky factor of A A^T:
    the law of S is that of the first p rows of a random rotation, and A stays as drawn. Without, entries
    have variance 1 / p.

    Memory:
        4 p d bytes in float32, on both ends, plus 4 p^2; without orthonormal rows and for p > d / 4, 8 p^2.

    Raises:
        FedSepError: p > d, or the matrix would take more than 2 GiB.
    """
    check_stored(p, d)
    rows = _normal(key, p * d).reshape(p, d)
    if orthonormal and not _well_conditioned(p, d):
        return Gaussian(torch.linalg.qr(rows.mT)[0].mT.contiguous(), True, exact=True)
    if not orthonormal:
        rows /= p**0.5
    return Gaussian(rows, orthonormal)


def _well_conditioned(p: int, d: int) -> bool:
    """Whether the Cholesky factor of A A^T can be taken in float32."""
    return 4 * p <= d


def check_stored(p: int, d: int) -> None:
    """Refuses what ``gaussian`` would refuse, without making anything.

    Raises:
        FedSepError: p > d, or the matrix would take more than 2 GiB.
    """
    check_shape(p, d)
    check_bytes(p * d * torch.get_default_dtype().itemsize, f"a stored {p} x {d} matrix takes")


def check_bytes(size: int, what: str) -> None:
    """Refuses more than 2 GiB.

    Raises:
        FedSepError: The size is larger; the text goes on from ``what``.
    """
    if size > _LARGEST:
        raise FedSepError(
            f"p must be smaller: {what} {size / 2**30:.1f} GiB, the limit is 2; or choose an "
            "operator that is not stored (block_srht, dct, sparse_signs; regenerated is Gaussian, but slow)"
        )


def stored_bytes(operator: object, p: int, d: int) -> int:
    """Bytes of the matrix that ``gaussian``, with any options, would store; 0 for other factories."""
    return p * d * torch.get_default_dtype().itemsize if _is_gaussian(operator) else 0


def known_scale(operator: object, p: int, d: int) -> float | None:
    """The scale of what ``gaussian``, with any options, would make; None for other factories."""
    if not _is_gaussian(operator):
        return None
    keywords = operator.keywords if isinstance(operator, functools.partial) else {}
    return 1.0 if keywords.get("orthonormal", True) else d / p


def _is_gaussian(operator: object) -> bool:
    return (operator.func if isinstance(operator, functools.partial) else operator) is gaussian


def _whiten(rows: Tensor) -> Tensor:
    factor = torch.linalg.cholesky(rows @ rows.mT)
    identity = torch.eye(rows.shape[0], dtype=rows.dtype, device=rows.device)
    return torch.linalg.solve_triangular(factor, identity, upper=False)


def _normal(key: Tensor, count: int) -> Tensor:
    out = torch.empty(count, device=key.device)
    for start in range(0, (count + 1) // 2, _BLOCK):
        piece = out[2 * start : 2 * (start + _BLOCK)]
        piece.copy_(random.normal(key, piece.numel(), start=start))
    return out
