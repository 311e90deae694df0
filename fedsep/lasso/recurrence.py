"""S y after a proximal step, from what is known of S y before it: one product with all of S a step instead of two.

A step is y = v - t c with v = z + gamma S^T r, t its threshold and c in [-1, 1]^d, so that

    S y = S z + gamma (S S^T) r - t S c.

S S^T is small, and c is 1 or -1 but where y is 0: it differs from the last step's c only where y is 0 or has changed
its sign, so S c is carried along by the columns of these places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fedsep.lasso.products import FEW, Matrix

LARGEST = 1 << 28
"""Bytes of a matrix that is copied by columns for the sake of speed: a larger one has its products taken in full."""


@dataclass(frozen=True)
class Prepared:
    """What is made once for a matrix.

    Attributes:
        matrix: S, of shape (p, d).
        columns: Its columns one after the other in memory, shape (d, p).
        gram: S S^T, shape (p, p).
    """

    matrix: Matrix
    columns: Tensor
    gram: Tensor


class Cut(NamedTuple):
    """What a step took off, in units of its threshold.

    Attributes:
        units: c, shape (d,).
        product: S c, shape (p,).
    """

    units: Tensor
    product: Tensor


def prepared(matrix: Matrix, gram: Tensor) -> Prepared | None:
    """Copies the columns, of at most 256 MiB.

    Args:
        matrix: S, of shape (p, d).
        gram: S S^T.
    """
    rows = matrix.rows
    if rows.numel() * rows.element_size() > LARGEST:
        return None
    return Prepared(matrix, rows.mT.contiguous(), gram)


def nothing(sketch: Prepared) -> Cut:
    """c = 0, from which the first step goes on."""
    p, d = sketch.matrix.rows.shape
    return Cut(sketch.columns.new_zeros(d), sketch.columns.new_zeros(p))


def following(sketch: Prepared, before: Tensor, v: Tensor, threshold: float, cut: Cut) -> tuple[Tensor, Cut]:
    """S y for y = soft(v, threshold), and what that took off, for the next step.

    Args:
        sketch: S.
        before: S v, shape (p,).
        v: Shape (d,).
        threshold: Of the proximal map, > 0.
        cut: The last step's.
    """
    units = (v / threshold).clamp(-1, 1)
    change = units - cut.units
    places = change.nonzero()[:, 0]
    if len(places) > FEW * len(units):
        product = sketch.matrix.mv(units)
    else:
        product = cut.product + _combined(sketch.columns, places, change[places])
    return before - threshold * product, Cut(units, product)


def _combined(columns: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    """The sum of some columns under weights, read where they lie."""
    bag = places.new_zeros(1)
    return torch.nn.functional.embedding_bag(places, columns, bag, mode="sum", per_sample_weights=weights)[0]
