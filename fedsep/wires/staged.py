"""A wire that changes as training goes: a warm-up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fedsep.core import Ctx, FedSepError, Payload, Tree, Wire
from fedsep.ranges import Count, checked
from fedsep.wires.message import require_memoryless
from fedsep.wires.promises import Promise, promise_of


@dataclass(frozen=True)
class Staged:
    """See ``staged``."""

    stages: tuple[Wire[Any], ...]
    rounds: int = 1

    def at(self, round: int) -> Wire[Any]:
        """The wire of a round."""
        return self.stages[min(round // self.rounds, len(self.stages) - 1)]

    def init(self, like: Tree) -> tuple[()]:
        """Nothing is remembered."""
        for wire in self.stages:
            require_memoryless(self, wire, like)
        return ()

    def pack(self, tree: Tree, memory: tuple[()], ctx: Ctx) -> tuple[Payload, tuple[()]]:
        """By the wire of the round."""
        return self.at(ctx.round).pack(tree, (), ctx)[0], memory

    def unpack(self, payload: Payload, like: Tree, ctx: Ctx) -> Tree:
        """By the wire of the round, which both ends know."""
        return self.at(ctx.round).unpack(payload, like, ctx)

    def promise(self, size: int) -> Promise:
        """That of the last, which lasts."""
        return promise_of(self.stages[-1], size)


@checked
def staged(stages: tuple[Wire[Any], ...], *, rounds: Count = 1) -> Staged:
    """One wire after the other, each for some rounds, the last for ever.

    Args:
        stages: Wires without a memory; put error feedback around all of them.
        rounds: How many rounds each but the last is used.

    Bytes:
        Those of the wire of the round.

    Raises:
        FedSepError: There are no wires.
    """
    if not stages:
        raise FedSepError("staged: stages must name at least one wire (got none)")
    return Staged(tuple(stages), rounds)
