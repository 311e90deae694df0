"""How images lie in memory while convolutions work on them."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fedsep.gradients import once
from fedsep.tasks.hooked import hooked

BLOCK = 16
"""Channels that oneDNN puts together: layers of other numbers are filled up, which costs what it saves, or more."""

_X86 = platform.machine().lower() in ("x86_64", "amd64", "x64")
_LARGEST = math.log(1e38)  # a float32 is 3.4 times as large at most


def laid_out(x: Tensor, layers: Sequence[nn.Module]) -> Tensor:
    """The same images, as convolutions on a CPU have them soonest; ``plain`` ends what this begins.

    In a local step (``fedsep.gradients.once``) in float32 on an x86 processor, if channels come in whole blocks: in the
    layout that oneDNN, which computes torch's convolutions there, chooses itself. Nothing is then turned around between
    one layer and the next. Such a tensor takes convolutions, pooling by maxima and ReLU, differentiable once, and
    little else. Everywhere else, see ``channels_last``.

    Args:
        x: Shape (images, channels, height, width).
        layers: All that have weights on the way to ``plain``, once for each use. Between them there may be pooling and
            ReLU, and nothing that makes numbers larger.
    """
    return x.contiguous().to_mkldnn() if once() and _suits(x, layers) else channels_last(x)


def plain(x: Tensor) -> Tensor:
    """The same numbers as any operation takes them."""
    return x.to_dense() if x.is_mkldnn else x


def channels_last(x: Tensor) -> Tensor:
    """The same images, on a CPU with channels innermost in memory, which makes a step much shorter there.

    ``contiguous(memory_format=torch.channels_last)`` does nothing to images of one channel, whose two
    layouts are the same numbers under different strides; convolution chooses its kernel by the strides.
    """
    if x.device.type != "cpu":
        return x
    n, c, h, w = x.shape
    return x.permute(0, 2, 3, 1).flatten().view(n, h, w, c).permute(0, 3, 1, 2)


def _suits(x: Tensor, layers: Sequence[nn.Module]) -> bool:
    usable = _X86 and torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)
    if not usable or torch.is_autocast_enabled("cpu"):
        return False
    if not x.is_cpu or x.dtype is not torch.float32 or not len(x):
        return False
    return all(map(_in_blocks, layers)) and _bound(x, layers) < _LARGEST


def _in_blocks(layer: nn.Module) -> bool:
    """Whether a layer is a convolution of whole blocks that nobody looks into."""
    if type(layer) is not nn.Conv2d or layer.padding_mode != "zeros" or len(layer.weight) % BLOCK:
        return False
    return not hooked(layer)


def _bound(x: Tensor, layers: Sequence[nn.Module]) -> float:
    """The logarithm of what no number on the way can exceed; not a number if weights or images hold such a one.

    oneDNN's ReLU and maxima lose what is not a number, and with it all sign that a client has diverged. With s the
    norm of all n weights and images, no image's number exceeds s, and no sum of weights' sizes s sqrt(n). If that is S,
    a layer makes at most S a + S of numbers up to a, which is less than (S + 1) (a + 1) - 1.
    """
    parts = [x, *(part for layer in layers for part in layer.parameters())]
    every = torch.cat([part.detach().flatten() for part in parts])
    norm = float(torch.linalg.vector_norm(every))
    return math.log(norm + 1) + len(layers) * math.log(norm * math.sqrt(len(every)) + 1)
