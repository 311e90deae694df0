"""Augmentation of minibatches: random crops and mirror images of what a client trains on, by key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fedsep.core import Batch, Samples
from fedsep.random import bits, fold, within
from fedsep.ranges import NonNegativeInt, checked

_AUGMENT = int.from_bytes(b"augment", "big")  # what the key of a client's minibatches is folded with

Augment = Callable[[Tensor, Tensor], Tensor]
"""Inputs as they are stored, shape (n, ...), and 64 random bits for each, int64 of shape (n,), to inputs of that shape.

An input's result depends on it and its bits alone, so that it is the same whatever it is computed beside.
"""


@dataclass(frozen=True)
class CropAndFlip:
    """See ``crop_and_flip``."""

    padding: int
    flip: bool

    def __call__(self, x: Tensor, draws: Tensor) -> Tensor:
        """The images, each moved and perhaps mirrored by its own draw."""
        sides, height, width = 2 * self.padding + 1, *x.shape[-2:]
        choice = within(draws, sides * sides * (2 if self.flip else 1))
        place, mirrored = choice % (sides * sides), choice // (sides * sides)
        across = torch.arange(width, device=x.device).expand(len(x), -1)
        across = torch.where(mirrored[:, None] > 0, across.flip(-1), across) + (place % sides)[:, None]
        down = torch.arange(height, device=x.device) + (place // sides)[:, None]
        padded = F.pad(x, [self.padding] * 4)
        rows = torch.arange(len(x), device=x.device)[:, None, None]
        return padded.movedim(1, -1)[rows, down[:, :, None], across[:, None, :]].movedim(-1, 1).contiguous()

    def mistakes(self, x: Tensor) -> list[str]:
        """Why such inputs cannot be cropped.

        Args:
            x: Inputs, shape (n, ...).
        """
        shape = tuple(x.shape[1:])
        if len(shape) == 3:
            side = min(shape[1:])
            told = f"augment.padding must be less than the image's {side} pixels (got {self.padding})"
            return [told] if self.padding >= side else []
        return [
            f"augment must be left out for inputs that are no images, (channels, height, width) (got shape {shape})"
        ]


@checked
def crop_and_flip(*, padding: NonNegativeInt = 4, flip: bool = True) -> CropAndFlip:
    """Moves each image by up to ``padding`` pixels either way, and mirrors every second one, anew in every step.

    The image gets ``padding`` pixels of 0, as it is stored, on every side, a window of its own size is cut at one of
    (2 padding + 1)^2 places, each as likely, and with chance 1/2 it is mirrored left to right. All of it follows from
    the client's key, the local step and the place in the minibatch: it is the same on every engine and device.
    Only minibatches of the local steps are augmented: evaluation, statistics of static batch normalisation, scores of
    units, what a codec looks at, and public data are as they are.

    Args:
        padding: Pixels on every side, fewer than the image has.
        flip: Whether images are mirrored, too; not for digits or letters.

    Reference:
        He et al. 2015, arXiv:1512.03385, section 4.2.
    """
    return CropAndFlip(padding, flip)


def draws(keys: Tensor, step: int, count: int) -> Tensor:
    """Random bits for the inputs of a minibatch, int64.

    Args:
        keys: Of a client's minibatches, or one for each of several clients.
        step: Number of the minibatch in the round.
        count: Inputs of the minibatch.

    Returns:
        Shape (count,), or (clients, count).
    """
    own = fold(fold(keys, _AUGMENT), step)
    return bits(own[:, None] if own.ndim else own, count)


def augmented(samples: Samples, index: Tensor | slice, drawn: Tensor, augment: Augment) -> Batch:
    """The examples at ``index``, augmented as they are stored and then normalised."""
    x, y = samples.rows(index)
    return Batch(samples.normalised(augment(x, drawn.to(x.device))), y)
