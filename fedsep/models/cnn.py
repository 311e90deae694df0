"""The four-layer convolutional network for small images."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from fedsep.core import FedSepError
from fedsep.models.layout import laid_out, plain
from fedsep.models.seeded import seeded
from fedsep.ranges import Count, NonNegativeInt, checked

_SMALLEST = 16  # pixels a side: three halvings must leave the 2 x 2 kernel something to cover


class CNN(nn.Module):
    """See ``cnn``."""

    def __init__(self, channels: int, height: int, breadth: int, classes: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv3 = nn.Conv2d(width, width, 3, padding=1)
        self.conv4 = nn.Conv2d(width, width, 2)
        self.head = nn.Linear(width * (height // 8 - 1) * (breadth // 8 - 1), classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (batch, channels, height, breadth) to outputs (batch, classes)."""
        x = laid_out(x, (self.conv1, self.conv2, self.conv3, self.conv4))
        for conv in (self.conv1, self.conv2, self.conv3):
            # The maximum of ReLUs is the ReLU of the maximum, on a quarter of the numbers.
            x = F.relu(F.max_pool2d(conv(x), 2, 2))
        return self.head(plain(F.relu(self.conv4(x))).flatten(1))


@checked
def cnn(shape: Sequence[int], classes: Count, *, width: Count = 32, seed: NonNegativeInt = 0) -> CNN:
    """Four convolutions and a fully connected head.

    Three convolutions 3 x 3 with padding, each followed by max pooling by 2 and ReLU; one convolution
    2 x 2 without padding, ReLU; everything that is left, flattened, into the head. 24,234 parameters for
    MNIST (10 classes, width 32), 97,866 for CIFAR-10 (width 64).

    Args:
        shape: Of one image: (channels, height, width), at least 16 x 16 pixels.
        classes: Number of outputs.
        width: Number of kernels in each convolution.
        seed: Of the initial weights, torch's default: uniform within 1 / sqrt(inputs of one kernel).

    Returns:
        A module from (batch, *shape) to (batch, classes).

    Raises:
        FedSepError: The inputs are not images, or too small ones, or a number is out of range.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise FedSepError(
            f"cnn: inputs must be images, shape (channels, height, width); got {tuple(shape)}. "
            "fedsep.models.mlp takes inputs of any shape"
        )
    channels, height, breadth = shape
    if min(height, breadth) < _SMALLEST:
        raise FedSepError(
            f"cnn: images must be at least {_SMALLEST} x {_SMALLEST} pixels; got {height} x {breadth} with "
            f"{channels} channels. {_advice(shape)}"
        )
    with seeded(seed):
        return CNN(channels, height, breadth, classes, width)


def _advice(shape: Sequence[int]) -> str:
    if shape[2] in (1, 3, 4) and min(shape[:2]) >= _SMALLEST:
        return f"Channels come first: is the shape {(shape[2], shape[0], shape[1])} meant?"
    return "Use fedsep.models.mlp for small images"
