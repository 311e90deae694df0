"""The pre-activation residual network that model-heterogeneous federated learning is compared on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from fedsep.core import FedSepError
from fedsep.models.layout import channels_last
from fedsep.models.scaler import Scaler
from fedsep.models.seeded import seeded
from fedsep.models.static_norm import StaticNorm
from fedsep.ranges import Count, NonNegativeInt, checked

Norm = Literal["static", "group", "none"]
Make = Callable[[int], nn.Module]


class _Block(nn.Module):
    """u = relu(norm1(x)); conv2(relu(norm2(conv1(u)))) + (shortcut(u) where the shape changes, else x)."""

    def __init__(self, inputs: int, channels: int, stride: int, make: Make) -> None:
        super().__init__()
        self.norm1 = make(inputs)
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, padding=1, bias=False)
        self.norm2 = make(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        changes = stride != 1 or inputs != channels
        self.shortcut = nn.Conv2d(inputs, channels, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        u = F.relu(self.norm1(x))
        around = x if self.shortcut is None else self.shortcut(u)
        return self.conv2(F.relu(self.norm2(self.conv1(u)))) + around


class ResNet(nn.Module):
    """See ``resnet``."""

    def __init__(
        self,
        channels: int,
        classes: int,
        blocks: Sequence[int],
        width: int,
        make: Make,
        features: int | None,
        pool: int,
    ) -> None:
        super().__init__()
        self.pool = pool
        self.stem = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        inputs, stages = width, list[nn.Module]()
        for number, count in enumerate(blocks):
            outputs = width * 2**number
            strides = [1 if number == 0 else 2, *(1 for _ in range(count - 1))]
            stages.append(nn.Sequential(*(_Block(inputs if at == 0 else outputs, outputs, stride, make)
                                          for at, stride in enumerate(strides))))  # fmt: skip
            inputs = outputs
        self.stages = nn.Sequential(*stages)
        self.norm = make(inputs)
        self.features = None if features is None else nn.Linear(inputs, features)
        self.head = nn.Linear(features or inputs, classes)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Images (batch, channels, height, width) to outputs (batch, classes)."""
        x = channels_last(F.avg_pool2d(x, self.pool) if self.pool > 1 else x)
        x = F.relu(self.norm(self.stages(self.stem(x))))
        x = x.mean((2, 3))
        return self.head(x if self.features is None else F.relu(self.features(x)))


@checked
def resnet(
    shape: Sequence[int],
    classes: Count,
    *,
    blocks: Sequence[Count] = (2, 2, 2, 2),
    width: Count = 64,
    norm: Norm = "static",
    groups: Count = 1,
    scaler: bool = True,
    features: Count | None = None,
    pool: Count = 1,
    seed: NonNegativeInt = 0,
) -> ResNet:
    """Pre-activation ResNet for small images; with the defaults ResNet-18 as in FedRolex.

    A 3 x 3 convolution, then stages of width, 2 width, 4 width, ... channels; every stage but the first halves the
    image. No convolution has a bias, shortcuts (1 x 1, where the shape changes) read the normalised input. 11,172,170
    parameters for CIFAR-10 and 11,218,340 for CIFAR-100; ``blocks=(1, 1, 1, 2)`` gives the network whose figures
    HeteroFL published as ResNet-18: 9.62 million.

    Args:
        shape: Of one image: (channels, height, width).
        classes: Number of outputs.
        blocks: Residual blocks of each stage.
        width: Channels of the first stage.
        norm: ``static``: batch normalisation by the batch's statistics in training, by statistics of training data in
            evaluation; ``group``: group normalisation; ``none``.
        groups: Groups of the group normalisation; they must divide the channels of every sub-model.
        scaler: Whether narrower sub-models are scaled up to the whole model's size, before each normalisation.
        features: Outputs of one more linear layer, with ReLU, before the head: networks of several widths then have
            heads of one shape. None: no such layer.
        pool: Side of the squares over which the image is averaged first; 1: not.
        seed: Of the initial weights, torch's default; the head's bias starts at 0.

    Returns:
        A module from (batch, *shape) to (batch, classes).

    Raises:
        FedSepError: The inputs are not images, or smaller than ``pool``, groups do not divide the width, or a number is
            out of range.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise FedSepError(f"resnet: inputs must be images, shape (channels, height, width); got {tuple(shape)}")
    if min(shape[1:]) < pool:
        raise FedSepError(f"resnet: pool must be at most a side of the image, {shape[1]} x {shape[2]} (got {pool})")
    if not blocks:
        raise FedSepError("resnet: blocks must hold a number for each stage (got none)")
    if norm == "group" and width % groups:
        raise FedSepError(f"resnet: groups must divide width, {width} (got {groups})")

    def make(channels: int) -> nn.Module:
        parts: list[nn.Module] = [Scaler(channels)] if scaler else []
        if norm == "static":
            parts.append(StaticNorm(channels))
        elif norm == "group":
            parts.append(nn.GroupNorm(groups, channels))
        return parts[0] if len(parts) == 1 else nn.Sequential(*parts)

    with seeded(seed):
        return ResNet(shape[0], classes, blocks, width, make, features, pool)
