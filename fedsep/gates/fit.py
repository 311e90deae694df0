"""The fit of phi: a few steps of Adam on Eq. (7), with gates drawn anew in each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsep import random, tree
from fedsep.core import Batch, Params
from fedsep.gradients import value_and_gradient

_MEAN, _SQUARE, _EPSILON = 0.9, 0.999, 1e-8  # Adam's usual ones (arXiv:1412.6980)

Objective = Callable[[Params, Batch, Tensor], Tensor]
"""What is minimised, from phi, a minibatch and the key of the gates' noise."""


@dataclass(frozen=True)
class Adam:
    """Adam with bias correction, and weights that decay apart from the gradient (AdamW).

    Attributes:
        lr: Learning rate.
        decay: Of weights, in units of the learning rate.
    """

    lr: float
    decay: float = 0.0

    def minimise(self, phi: Params, objective: Objective, batches: Iterable[Batch], key: Tensor) -> Params:
        """phi after a step for each minibatch."""
        # As one vector, and in place: phi has many tensors and a network's worth of numbers, and an epoch is short.
        y, unravel = tree.ravel(phi)  # a copy
        mean, square, size = torch.zeros_like(y), torch.zeros_like(y), torch.empty_like(y)
        for number, batch in enumerate(batches, start=1):
            noise = random.fold(key, number)

            def value(at: Params, batch: Batch = batch, noise: Tensor = noise) -> Tensor:
                return objective(unravel(at["phi"]), batch, noise)

            slope = value_and_gradient(value, {"phi": y})[1]["phi"]
            mean = mean.lerp_(slope, 1 - _MEAN)
            square = square.mul_(_SQUARE).addcmul_(slope, slope, value=1 - _SQUARE)
            size = torch.div(square, 1 - _SQUARE**number, out=size).sqrt_().add_(_EPSILON)
            y = y.mul_(1 - self.lr * self.decay).addcdiv_(mean, size, value=-self.lr / (1 - _MEAN**number))
        return unravel(y)
