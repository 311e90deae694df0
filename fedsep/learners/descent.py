"""Steps that fit a model to something other than a client's data: to other models' outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fedsep import tree
from fedsep.core import Params
from fedsep.gradients import value_and_gradient
from fedsep.learners.batches import positions

Optimizer = Literal["adam", "sgd"]

_MEAN, _SQUARE, _EPSILON = 0.9, 0.999, 1e-8  # Adam's usual ones (arXiv:1412.6980)


_ROUNDING = 16  # units in the last place of 1


class _Moments(NamedTuple):
    mean: Params
    square: Params


@dataclass(frozen=True)
class Descent:
    """How a model is fitted.

    Attributes:
        steps: How many steps; 0: none.
        batch_size: Examples in a minibatch.
        lr: Learning rate.
        optimizer: ``adam``, with bias correction, or ``sgd``, plain.
        clip: Largest norm of a gradient; None: any.
        cosine: Whether the rate falls along half a cosine to 0.
    """

    steps: int
    batch_size: int
    lr: float
    optimizer: Optimizer = "sgd"
    clip: float | None = None
    cosine: bool = False

    def fit(self, y: Params, count: int, loss: Callable[[Params, Tensor], Tensor], key: Tensor) -> Params:
        """The parameters after all steps.

        Args:
            y: Where they start.
            count: Number of examples.
            loss: Of parameters and the positions, int64, of a minibatch's examples.
            key: Of the order of examples.
        """
        moments = _Moments(tree.zeros_like(y), tree.zeros_like(y))
        for number, index in enumerate(self.minibatches(count, key)):
            _, gradient = value_and_gradient(lambda y, index=index: loss(y, index), y)
            if self.clip is not None:
                gradient = tree.scale(gradient, (self.clip / tree.norm(gradient).clamp_min(1e-12)).clamp_max(1.0))
            direction, moments = self._direction(gradient, moments, number + 1)
            y = tree.add(y, direction, -self._rate(number))
        return y

    def brief(self) -> Descent:
        """One step at most."""
        return replace(self, steps=min(1, self.steps))

    def minibatches(self, count: int, key: Tensor) -> Iterator[Tensor]:
        """Positions of each step's examples: without replacement inside an epoch."""
        return positions(key, count, self.batch_size, self.steps)

    def examples(self, count: int) -> int:
        """How many of ``count`` examples are met at all."""
        return min(count, self.steps * self.batch_size)

    def leaves_one(self, count: int) -> bool:
        """Whether a minibatch of ``count`` examples that are met has a single one."""
        if not self.steps or self.batch_size == 1:
            return self.steps > 0
        return count % self.batch_size == 1 and self.steps > count // self.batch_size

    def _rate(self, number: int) -> float:
        return self.lr * (0.5 * (1 + math.cos(math.pi * number / self.steps)) if self.cosine else 1.0)

    def _direction(self, gradient: Params, moments: _Moments, number: int) -> tuple[Params, _Moments]:
        if self.optimizer == "sgd":
            return gradient, moments
        mean = {n: _MEAN * moments.mean[n] + (1 - _MEAN) * g for n, g in gradient.items()}
        square = {n: _SQUARE * moments.square[n] + (1 - _SQUARE) * g * g for n, g in gradient.items()}
        first, second = 1 - _MEAN**number, 1 - _SQUARE**number
        step = {n: (mean[n] / first) / ((square[n] / second).sqrt() + _EPSILON) for n in gradient}
        return step, _Moments(mean, square)


def divergence(targets: Tensor, logits: Tensor) -> Tensor:
    """KL(targets || softmax(logits)), the mean over examples; ``targets`` are probabilities, shape (n, classes).

    The gradient is softmax(logits) - targets, in which differences of the size of rounding are 0: Adam divides by
    the gradient's size and would make whole steps of them, away from a model that has learned all there is.
    """
    value = F.kl_div(logits.log_softmax(-1), targets, reduction="batchmean").detach()
    apart = (logits.softmax(-1) - targets).detach()
    apart = torch.where(apart.abs() > _ROUNDING * torch.finfo(apart.dtype).eps, apart, 0.0)
    along = (apart * logits).sum() / len(targets)
    return value + (along - along.detach())
