"""Random orders and whole-numbered shares, the same on every machine; in main memory, wherever the key lies."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedsep import random
from fedsep.data.parts import Indices


def order(key: Tensor, count: int) -> Indices:
    """A random order of 0 .. count-1."""
    return random.permutation(key.cpu(), count).numpy()


def draws(key: Tensor, count: int, below: int) -> Indices:
    """Whole numbers in [0, below), as many as ``count``."""
    return random.integers(key.cpu(), below, count).numpy()


def grid(key: Tensor, rows: int, columns: int) -> Indices:
    """Every row a random order of 0 .. columns-1, shape (rows, columns)."""
    return torch.argsort(random.bits(key.cpu(), rows * columns).reshape(rows, columns), dim=1).numpy()


def apportion(weights: npt.NDArray[np.floating], total: int) -> Indices:
    """Whole numbers in proportion to ``weights`` that add up to ``total``: largest remainders."""
    scale = weights.sum()
    exact = weights * (total / scale) if scale > 0 else np.full(len(weights), total / len(weights))
    share = np.floor(exact).astype(np.int64)
    missing = total - int(share.sum())
    share[np.argsort(share - exact, kind="stable")[:missing]] += 1
    return share
