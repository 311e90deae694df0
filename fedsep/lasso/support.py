"""The derivative of a LASSO minimiser, transposed: S_A (S_A^T S_A + damping I)^-1 v on the support A (Eq. 5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from fedsep.core import FedSepError
from fedsep.implicit import Solution, conjugate_gradient, neumann
from fedsep.lasso.products import Masked, Matrix, Products


class Factor(NamedTuple):
    """A Cholesky factor that all clients with one support share.

    Attributes:
        columns: S_A, shape (p, |A|), or shape (p, 0) where |A| > p: then products are with all of S.
        cholesky: Of S_A^T S_A + damping I; where |A| > p, of S_A S_A^T + damping I, which gives the same.
    """

    columns: Tensor
    cholesky: Tensor


def factorise(sketch: Matrix, support: Tensor, damping: float, gram: Callable[[], Tensor]) -> Factor:
    """The damped system on a support, of the smaller of its two forms.

    Args:
        sketch: S, of shape (p, d).
        support: A, int64 positions, at least one.
        damping: Added to the eigenvalues.
        gram: Gives S S^T, shape (p, p); asked where most columns are in A: the others are subtracted.

    Raises:
        FedSepError: The system is singular.
    """
    p, d = sketch.rows.shape
    if len(support) <= p:
        columns = sketch.columns(support)
        return Factor(columns, _cholesky(columns.mT @ columns, damping, len(support), p))
    if 2 * len(support) <= d:
        part = sketch.columns(support)
        square = part @ part.mT
    else:
        rest = torch.ones(d, dtype=torch.bool, device=support.device).index_fill(0, support, False)
        part = sketch.columns(rest.nonzero()[:, 0])
        square = gram() - part @ part.mT
    return Factor(part.new_zeros(p, 0), _cholesky(square, damping, len(support), p))


def apply(factor: Factor, sketch: Matrix, support: Tensor, v: Tensor) -> Tensor:
    """dx, shape (p,), for a change v on the support, shape (|A|,)."""
    if factor.columns.shape[1]:
        return factor.columns @ torch.cholesky_solve(v[:, None], factor.cholesky)[:, 0]
    product = Masked(sketch, support, sketch.rows.shape[1]).mv(v)
    return torch.cholesky_solve(product[:, None], factor.cholesky)[:, 0]


def iterate(
    columns: Products, v: Tensor, *, damping: float, terms: int, gamma: float | None, p: int
) -> tuple[Tensor, Tensor]:
    """dx and a relative residual, by products with S_A alone.

    Args:
        columns: S_A.
        v: The change on the support, shape (|A|,).
        damping: Of conjugate gradients.
        terms: Their largest number of steps, or Q of the series.
        gamma: With it, gamma sum_{q=0..Q} S_A (I - gamma S_A^T S_A)^q v, the truncated Neumann series, which is finite
            for gamma < 2 / |S|^2 whatever the support; its residual is its last term. None: conjugate gradients.
        p: Rows of S.

    Raises:
        FedSepError: |A| > p without damping: the system is singular.
    """
    if gamma is not None:
        solution = neumann(lambda u, _: columns.rmv(columns.mv(u)), v, terms=terms, step=gamma)
        return columns.mv(solution.value), solution.residual
    if len(v) > p and damping == 0:
        raise _singular(len(v), p)

    def product(u: Tensor, number: int) -> Tensor:
        return columns.rmv(columns.mv(u)) + damping * u

    tolerance = torch.finfo(v.dtype).eps ** 0.75  # 6e-6 in float32
    found: Solution = conjugate_gradient(product, v, steps=terms, tolerance=tolerance)
    return columns.mv(found.value), found.residual


def _cholesky(square: Tensor, damping: float, support: int, p: int) -> Tensor:
    damped = square + damping * torch.eye(len(square), dtype=square.dtype, device=square.device)
    factor, failed = torch.linalg.cholesky_ex(damped)
    if bool(failed) or (support > p and damping == 0):
        raise _singular(support, p)
    return factor


def _singular(support: int, p: int) -> FedSepError:
    return FedSepError(
        f"S_A^T S_A has no inverse: decode gave a support of {support} coordinates, p={p}. Give damping > 0 (more of "
        "it), a larger beta, more decode_steps, or encoder='neumann'"
    )
