"""Plain averaging, with a server learning rate and momentum."""

from __future__ import annotations

from dataclasses import dataclass

from fedsep import tree
from fedsep.core import Tree
from fedsep.ranges import Momentum, Positive, checked


@dataclass(frozen=True)
class SGDRule:
    """See ``sgd``."""

    lr: float = 1.0
    momentum: float = 0.0

    def init(self, x: Tree) -> Tree:
        """The velocity; empty without momentum."""
        return tree.zeros_like(x) if self.momentum else ()

    def step(self, x: Tree, change: Tree, state: Tree) -> tuple[Tree, Tree]:
        """x + lr * v."""
        velocity = tree.add(change, state, self.momentum) if self.momentum else change
        return tree.add(x, velocity, self.lr), velocity if self.momentum else ()


@checked
def sgd(*, lr: Positive = 1.0, momentum: Momentum = 0.0) -> SGDRule:
    """v <- momentum v + change; x <- x + lr v. With lr 1 and no momentum: averaging.

    Memory:
        Server: x's size with momentum, nothing without.

    Args:
        lr: eta_g of Algorithm 1, line 20.
        momentum: FedAvgM's beta (arXiv:1909.06335).
    """
    return SGDRule(lr, momentum)
