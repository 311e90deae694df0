"""Blocks: the server's model is several narrow ones, and a client is sent as many of them as it can hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fedsep import random, tree
from fedsep.core import Ctx, Params, Tree
from fedsep.tasks.ensemble import joined, parted
from fedsep.views.submodel import Submodel

_BLOCKS = int.from_bytes(b"blocks", "big")  # what the client's key is folded with to draw blocks
_EACH = ("model", "importance")  # what a reply says of each block; its classes it says once


@dataclass(frozen=True)
class Blocks:
    """A client of capability p is sent floor(p k) of the k blocks, drawn anew every round; at least one.

    A client that cannot hold a whole block, p k < 1, is sent a share p k of the units of one.

    Bytes:
        Down: 4 a number of the blocks that are sent. Up: the same, a bit for each class where they are told, and 4 for
        each unit of each block where importances are.

    Attributes:
        part: Cuts a client's share out of one block.
        blocks: k.
    """

    part: Submodel
    blocks: int

    def drawn(self, ctx: Ctx) -> list[int]:
        """The blocks of a client in a round, in increasing order."""
        order = random.permutation(random.fold(ctx.key, _BLOCKS), self.blocks)
        return sorted(order[: self._count(ctx.capability)].tolist())

    def cut(self, x: Params, ctx: Ctx) -> Params:
        """The client's blocks."""
        return self._cut(x, self.drawn(ctx), ctx)

    def like(self, x: Params, ctx: Ctx) -> Tree:
        """A change of the client's blocks, and what is told beside it: classes once, importances for each block."""
        whole, inside = parted(x), self._inside(ctx)
        each: dict[int, Any] = {number: self.part.like(whole[number], inside) for number in self.drawn(ctx)}
        if not self.part.tells:
            return joined(each)
        first: dict[str, Any] = next(iter(each.values()))
        return {name: joined({number: part[name] for number, part in each.items()}) if name in _EACH else once
                for name, once in first.items()}  # fmt: skip

    def paste(self, dx: Any, x: Params, ctx: Ctx) -> tuple[Params, Params]:
        """The change in the shapes of x, and which blocks the client holds."""
        whole, inside = parted(x), self._inside(ctx)
        told = dx if self.part.tells else {"model": dx}
        apart = {name: parted(part) for name, part in told.items() if name in _EACH}
        values: dict[int, Params] = {number: tree.zeros_like(part) for number, part in whole.items()}
        covers: dict[int, Params] = dict(values)
        for number in self.drawn(ctx):
            change = {**told, **{name: parts.get(number, {}) for name, parts in apart.items()}}
            values[number], covers[number] = self.part.spread(change, whole[number], self.part.keep(inside), inside)
        return joined(values), joined(covers)

    def form(self, ctx: Ctx) -> object:
        """Clients of one capability change other blocks, and so other names."""
        return ctx.capability, tuple(self.drawn(ctx))

    def submodel(self, x: Params, params: Params, ctx: Ctx) -> Params:
        """The client's blocks."""
        return self.cut(params, ctx)

    def narrower(self, x: Params, params: Params, width: float, round: int) -> Params:
        """The first floor(width k) blocks, or a share of one."""
        ctx = Ctx(round, width, random.key(round))
        return self._cut(params, list(range(self._count(width))), ctx)

    def mistakes(self, capabilities: Iterable[float]) -> list[str]:
        """Why clients of these capabilities cannot be sent their blocks."""
        found: list[str] = []
        for capability in sorted(set(capabilities)):
            held = f"each of blocks={self.blocks} keeps for a client of capability {capability:g}"
            found += self.part.mistakes([self._share(capability)], held)
        return found

    def _cut(self, x: Params, numbers: list[int], ctx: Ctx) -> Params:
        whole = parted(x)
        return joined({number: self.part.cut(whole[number], self._inside(ctx)) for number in numbers})

    def _count(self, capability: float) -> int:
        return max(1, int(capability * self.blocks + 1e-9))

    def _share(self, capability: float) -> float:
        return min(1.0, capability * self.blocks)

    def _inside(self, ctx: Ctx) -> Ctx:
        return ctx._replace(capability=self._share(ctx.capability))
