"""How images lie in memory while convolutions work on them."""

from __future__ import annotations

import platform
from typing import Any

import torch
from torch import Tensor

from fedsep.gradients import DifferentiatedTwice, once

BLOCK = 16
"""Channels that oneDNN puts together: layers of other numbers are filled up, and slower than with channels last."""

_X86 = platform.machine().lower() in ("x86_64", "amd64", "x64")


def laid_out(x: Tensor, channels: int) -> Tensor:
    """The same images, as convolutions on a CPU have them soonest; ``plain`` ends what this begins.

    In a local step (``fedsep.gradients.once``) in float32 on an x86 processor, if channels come in whole blocks: in the
    layout that oneDNN, which computes torch's convolutions there, chooses itself. Nothing is then turned around between
    one layer and the next. Such a tensor takes convolutions, pooling by maxima and ReLU, differentiable once, and
    little else. Everywhere else, see ``channels_last``.

    Args:
        x: Shape (images, channels, height, width).
        channels: Of the convolutions' outputs.
    """
    return x.contiguous().to_mkldnn() if channels % BLOCK == 0 and _blocks(x) else channels_last(x)


def plain(x: Tensor) -> Tensor:
    """The same numbers as any operation takes them."""
    return _Plain.apply(x) if x.is_mkldnn else x  # type: ignore[no-any-return]


def channels_last(x: Tensor) -> Tensor:
    """The same images, on a CPU with channels innermost in memory, which halves the time of a step there.

    ``contiguous(memory_format=torch.channels_last)`` does nothing to images of one channel, whose two
    layouts are the same numbers under different strides; convolution chooses its kernel by the strides.
    """
    if x.device.type != "cpu":
        return x
    n, c, h, w = x.shape
    return x.permute(0, 2, 3, 1).flatten().view(n, h, w, c).permute(0, 3, 1, 2)


def _blocks(x: Tensor) -> bool:
    usable = _X86 and torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)
    fit = x.is_cpu and x.dtype is torch.float32 and len(x) > 0 and not torch.is_autocast_enabled("cpu")
    return usable and fit and once()


class _Plain(torch.autograd.Function):
    """``to_dense`` that says what would else be torch's error about a derivative of an operation nobody called."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.to_dense()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        if torch.is_grad_enabled():
            raise DifferentiatedTwice("a network that lies in oneDNN's layout has no second derivative")
        return gradient.contiguous().to_mkldnn()
