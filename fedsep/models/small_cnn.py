"""A small convolutional network without normalisation, for comparisons of sub-models on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from fedsep.core import FedSepError
from fedsep.models.layout import channels_last
from fedsep.models.scaler import Scaler
from fedsep.models.seeded import seeded
from fedsep.ranges import Count, NonNegativeInt, checked


class SmallCNN(nn.Module):
    """See ``small_cnn``."""

    def __init__(self, shape: Sequence[int], classes: int, widths: Sequence[int], pool: int, scaler: bool) -> None:
        super().__init__()
        channels, height, width = shape
        self.pool = pool
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise((channels, *widths)))
        self.scalers = nn.ModuleList(Scaler(b) if scaler else nn.Identity() for b in widths)
        halvings = pool * 2 ** (len(widths) - 1)
        self.head = nn.Linear(widths[-1] * (height // halvings) * (width // halvings), classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (batch, channels, height, width) to outputs (batch, classes)."""
        x = channels_last(F.avg_pool2d(x, self.pool) if self.pool > 1 else x)
        last = len(self.convs) - 1
        for number, (conv, scale) in enumerate(zip(self.convs, self.scalers, strict=True)):
            x = scale(conv(x))
            # The maximum of ReLUs is the ReLU of the maximum, on a quarter of the numbers.
            x = F.relu(F.max_pool2d(x, 2) if number < last else x)
        return self.head(x.flatten(1))


@checked
def small_cnn(
    shape: Sequence[int],
    classes: Count,
    *,
    widths: Sequence[Count] = (16, 32, 32),
    pool: Count = 2,
    scaler: bool = True,
    seed: NonNegativeInt = 0,
) -> SmallCNN:
    """Images averaged over squares, 3 x 3 convolutions with ReLU and max pooling between them, one linear layer.

    16,938 parameters for MNIST pooled to 14 x 14. There is no normalisation, so that scalers matter.

    Args:
        shape: Of one image: (channels, height, width).
        classes: Number of outputs.
        widths: Kernels of each convolution; all but the last are followed by max pooling by 2.
        pool: Side of the squares over which the image is averaged first; 1: not.
        scaler: Whether narrower sub-models are scaled up to the whole model's size, after each convolution.
        seed: Of the initial weights, torch's default.

    Returns:
        A module from (batch, *shape) to (batch, classes).

    Raises:
        FedSepError: The inputs are not images, or too small ones, or a number is out of range.
    """
    if len(shape) != 3 or min(shape) < 1 or not widths:
        raise FedSepError(
            "small_cnn: inputs must be images, shape (channels, height, width), and widths must name a convolution "
            f"(got shape {tuple(shape)}, widths {tuple(widths)})"
        )
    smallest = pool * 2 ** (len(widths) - 1)
    if min(shape[1:]) < smallest:
        raise FedSepError(
            f"small_cnn: images must be at least {smallest} x {smallest} pixels (got {shape[1]} x {shape[2]}): "
            "lower pool, or give fewer widths"
        )
    with seeded(seed):
        return SmallCNN(shape, classes, widths, pool, scaler)
