"""Adaptive server optimisers: FedAdam and FedYogi of "Adaptive Federated Optimization" (arXiv:2003.00295)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fedsep import tree
from fedsep.core import Tree
from fedsep.ranges import Momentum, Positive, checked


class Moments(NamedTuple):
    """First and second moments of the change."""

    first: Tree
    second: Tree


def _adam(second: Tensor, square: Tensor, beta: float) -> Tensor:
    return beta * second + (1 - beta) * square


def _yogi(second: Tensor, square: Tensor, beta: float) -> Tensor:
    return second - (1 - beta) * square * torch.sign(second - square)


@dataclass(frozen=True)
class AdaptiveRule:
    """m <- b1 m + (1-b1) change; v by ``second``; x <- x + lr m / (sqrt v + tau), without bias correction."""

    second: Callable[[Tensor, Tensor, float], Tensor]
    lr: float
    beta1: float
    beta2: float
    tau: float

    def init(self, x: Tree) -> Moments:
        """m = 0 and v = tau^2, the smallest that the paper allows."""
        return Moments(tree.zeros_like(x), tree.map(lambda part: torch.full_like(part, self.tau**2), x))

    def step(self, x: Tree, change: Tree, state: Moments) -> tuple[Tree, Moments]:
        """One step on x."""
        first = tree.map(lambda m, c: self.beta1 * m + (1 - self.beta1) * c, state.first, change)
        second = tree.map(lambda v, c: self.second(v, c * c, self.beta2), state.second, change)
        moved = tree.map(lambda part, m, v: part + self.lr * m / (v.sqrt() + self.tau), x, first, second)
        return moved, Moments(first, second)


@checked
def adam(*, lr: Positive = 0.01, beta1: Momentum = 0.9, beta2: Momentum = 0.99, tau: Positive = 1e-3) -> AdaptiveRule:
    """FedAdam: v <- b2 v + (1 - b2) change^2.

    Memory:
        Server: twice x's size.

    Args:
        lr: Server learning rate.
        beta1: Decay of the first moment.
        beta2: Decay of the second moment.
        tau: Degree of adaptivity; also the root of the initial second moment.

    Reference:
        arXiv:2003.00295, Algorithm 2; no bias correction, as printed there.
    """
    return AdaptiveRule(_adam, lr, beta1, beta2, tau)


@checked
def yogi(*, lr: Positive = 0.01, beta1: Momentum = 0.9, beta2: Momentum = 0.99, tau: Positive = 1e-3) -> AdaptiveRule:
    """FedYogi: v <- v - (1 - b2) change^2 sign(v - change^2).

    Memory:
        Server: twice x's size.

    Args:
        lr: Server learning rate.
        beta1: Decay of the first moment.
        beta2: Decay of the second moment.
        tau: Degree of adaptivity; also the root of the initial second moment.

    Reference:
        arXiv:2003.00295, Algorithm 2; no bias correction, as printed there.
    """
    return AdaptiveRule(_yogi, lr, beta1, beta2, tau)
