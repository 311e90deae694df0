"""The area under the ROC curve, exactly."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def auc(scores: Tensor, positive: Tensor) -> float:
    """The chance that a positive example scores higher than a negative one, ties counted one half.

    Pairs are counted in integers, so the result is right to the last bit of the division
    (Mann and Whitney 1947). It takes a sort, O(n log n).

    Args:
        scores: Shape (n,).
        positive: Booleans, shape (n,).

    Returns:
        A number from 0 to 1; nan where there is only one class, or where a score is nan.
    """
    positives = int(positive.sum())
    pairs = positives * (len(positive) - positives)
    if not pairs or bool(scores.isnan().any()):
        return math.nan
    levels, level = torch.unique(scores, return_inverse=True)
    above = torch.bincount(level[positive], minlength=len(levels))
    below = torch.bincount(level[~positive], minlength=len(levels))
    won_twice = above * (2 * (below.cumsum(0) - below) + below)
    return int(won_twice.sum()) / (2 * pairs)
