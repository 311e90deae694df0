"""The multilayer perceptron."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from fedsep.core import FedSepError
from fedsep.models.seeded import seeded
from fedsep.models.shapes import features
from fedsep.ranges import Count, NonNegativeInt, checked


@checked
def mlp(
    shape: Sequence[int], classes: Count, *, hidden: Sequence[Count] = (64,), seed: NonNegativeInt = 0
) -> nn.Sequential:
    """Fully connected layers on flattened inputs, ReLU between them.

    Args:
        shape: Of one input; any.
        classes: Number of outputs.
        hidden: Width of each hidden layer, the one next to the input first; empty gives an affine model.
        seed: Of the initial weights, torch's default: uniform within 1 / sqrt(inputs of the layer).

    Returns:
        A module from (batch, *shape) to (batch, classes), with parameters ``layer1.weight``, ``layer1.bias``, ...

    Raises:
        FedSepError: The shape is empty, or a number is out of range.
    """
    size = features("mlp", shape)
    if any(width < 1 for width in hidden):
        raise FedSepError(f"mlp: hidden must hold widths >= 1 (got {tuple(hidden)})")
    parts: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    with seeded(seed):
        for number, (inputs, outputs) in enumerate(pairwise((size, *hidden, classes)), start=1):
            if number > 1:
                parts[f"relu{number - 1}"] = nn.ReLU()
            parts[f"layer{number}"] = nn.Linear(inputs, outputs)
    return nn.Sequential(parts)
