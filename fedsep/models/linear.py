"""The affine model, for regression and for closed forms."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from fedsep.models.seeded import seeded
from fedsep.models.shapes import features
from fedsep.ranges import Count, NonNegativeInt, checked


@checked
def linear(shape: Sequence[int], classes: Count, *, bias: bool = True, seed: NonNegativeInt = 0) -> nn.Sequential:
    """W x + b on flattened inputs; with ``fedsep.tasks.regression`` the loss is quadratic in the parameters.

    Args:
        shape: Of one input; any.
        classes: Number of outputs.
        bias: Whether there is a b.
        seed: Of the initial weights, torch's default: uniform within 1 / sqrt(inputs).

    Returns:
        A module from (batch, *shape) to (batch, classes), with parameters ``linear.weight`` and ``linear.bias``.

    Raises:
        FedSepError: The shape is empty, or a number is out of range.
    """
    size = features("linear", shape)
    with seeded(seed):
        layer = nn.Linear(size, classes, bias=bias)
    return nn.Sequential(OrderedDict(flatten=nn.Flatten(), linear=layer))
