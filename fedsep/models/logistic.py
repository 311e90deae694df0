"""Logistic regression, the convex classifier."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from fedsep.models.linear import linear
from fedsep.models.shapes import features
from fedsep.ranges import Count, NonNegativeInt, checked


@checked
def logistic(shape: Sequence[int], classes: Count, *, seed: NonNegativeInt = 0) -> nn.Sequential:
    """Multinomial logistic regression: W x + b on flattened inputs, to be read as logits.

    Its loss is convex. Two classes may have one output (``fedsep.tasks.binary``) or two.

    Args:
        shape: Of one input; any.
        classes: Number of logits.
        seed: Of the initial weights, torch's default: uniform within 1 / sqrt(inputs).

    Returns:
        A module from (batch, *shape) to (batch, classes), with parameters ``linear.weight`` and ``linear.bias``.

    Raises:
        FedSepError: The shape is empty, or a number is out of range.
    """
    features("logistic", shape)
    return linear(shape, classes, seed=seed)
