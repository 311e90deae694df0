"""The sender's side of Deep Gradient Compression: momentum before, not after, what is left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from fedsep import tree as trees
from fedsep.core import Ctx, Payload, Tree, Wire
from fedsep.ranges import Momentum, checked
from fedsep.wires.message import require_memoryless
from fedsep.wires.promises import Lossy


class Accumulated(NamedTuple):
    """The sender's memory: u, the momentum, and v, what is waiting to be sent."""

    u: Tree
    v: Tree


@dataclass(frozen=True)
class MomentumCorrection:
    """See ``momentum_correction``."""

    wire: Wire[Any]
    momentum: float = 0.9
    nesterov: bool = False
    masking: bool = True

    def init(self, like: Tree) -> Accumulated:
        """No momentum, nothing waiting."""
        require_memoryless(self, self.wire, like)
        return Accumulated(trees.zeros_like(like), trees.zeros_like(like))

    def pack(self, tree: Tree, memory: Accumulated, ctx: Ctx) -> tuple[Payload, Accumulated]:
        """u <- m u + g; v <- v + u; C(v) is sent; v <- v - C(v), and u <- 0 where something was read."""
        u, step = self._accumulated(tree, memory.u)
        v = trees.add(step, memory.v)
        payload, _ = self.wire.pack(v, (), ctx)
        read = self.wire.unpack(payload, v, ctx)
        if self.masking:
            u = trees.map(lambda part, sent: torch.where(sent != 0, 0.0, part), u, read)
        return payload, Accumulated(u, trees.sub(v, read))

    def unpack(self, payload: Payload, like: Tree, ctx: Ctx) -> Tree:
        """As the wire inside reads it."""
        return self.wire.unpack(payload, like, ctx)

    def promise(self, size: int) -> Lossy:
        """What is read in the end is a momentum's sum, not the sum of the messages."""
        return Lossy()

    def _accumulated(self, g: Tree, u: Tree) -> tuple[Tree, Tree]:
        """The new u, and what is added to v."""
        if not self.nesterov:
            u = trees.add(g, u, self.momentum)
            return u, u
        u = trees.scale(trees.add(u, g), self.momentum)
        return u, trees.add(g, u)


@checked
def momentum_correction(
    wire: Wire[Any], *, momentum: Momentum = 0.9, nesterov: bool = False, masking: bool = True
) -> MomentumCorrection:
    """Momentum of every coordinate, summed up until the coordinate is sent: a sparse wire with a memory of its own.

    Error feedback under a server's momentum would let a coordinate's momentum forget what waited; here it is in the
    sum. It takes the place of error feedback: do not put one around the other.

    Args:
        wire: Sends few coordinates, such as ``topk``; without a memory.
        momentum: m.
        nesterov: u <- m (u + g) and v <- v + u + g instead of u <- m u + g and v <- v + u.
        masking: Whether the momentum of what was sent starts anew (factor masking): it had grown stale.

    Bytes:
        Those of ``wire``.

    Memory:
        Two messages, at the sender.

    Reference:
        Lin et al. 2018, arXiv:1712.01887 (Deep Gradient Compression).
    """
    return MomentumCorrection(wire, momentum, nesterov, masking)
