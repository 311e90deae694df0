"""A sub-model: some units of every layer, sliced out of the server's tensors and put back where they came from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fedsep import random, tree
from fedsep.core import Ctx, Params, Tree
from fedsep.models.units import Units, kept, sliced_at
from fedsep.views.plans import Plan, Static
from fedsep.wires.bits import packed_bytes, unpack


@dataclass(frozen=True)
class Submodel:
    """A client of capability p is sent ceil(p n) units of every group of n, at least one; ``plan`` says which.

    paste is the transpose of cut: the client's change at its units, 0 elsewhere; the cover is 1 where it has units.
    Where replies say which classes a client has, it covers only their rows of the model's last layer.

    Bytes:
        Down: 4 a number of the sub-model. Up: the same, and a bit for each class where they are told.

    Attributes:
        units: Which dimensions count the same units.
        plan: Which units a client has.
        classes: Number of classes, where replies say which of them the client has (``codecs.Present``); else None.
        least: Clients of a lower capability are sent nothing.
        width: Taken for every client's capability; None: its own.
    """

    units: Units
    plan: Plan = Static()
    classes: int | None = None
    least: float = 0.0
    width: float | None = None

    def keep(self, ctx: Ctx) -> dict[str, Tensor]:
        """The units that a client has of each group."""
        share = ctx.capability if self.width is None else self.width
        sizes = self.units.sizes.items()
        return {group: self.plan(n, kept(n, share), number, ctx) for number, (group, n) in enumerate(sizes)}

    def cut(self, x: Params, ctx: Ctx) -> Params:
        """The client's sub-model; nothing where its capability is too low to take part."""
        return {} if self.idle(ctx) else self.units.cut(x, self.keep(ctx))

    def like(self, x: Params, ctx: Ctx) -> Tree:
        """A change of the sub-model, and the classes if they are told."""
        part = self.cut(x, ctx)
        if self.classes is None:
            return part
        count = packed_bytes(self.classes, 1) if part else 0
        return {"model": part, "classes": ctx.key.new_zeros(count, dtype=torch.uint8)}

    def paste(self, dx: Any, x: Params, ctx: Ctx) -> tuple[Params, Params]:
        """The change in the shapes of x, and where the client holds x."""
        if self.idle(ctx):
            return tree.zeros_like(x), tree.zeros_like(x)
        keep = self.keep(ctx)
        change: Params = dx if self.classes is None else dx["model"]
        # A reply names its parameters in any order.
        value = self.units.paste({name: change[name] for name in x}, x, keep)
        cover = self.units.cover(x, keep)
        if self.classes is None:
            return value, cover
        own = unpack(dx["classes"], 1, self.classes)
        rows = {name: _rows(own, x[name]) for name in self.units.outputs}
        return (
            {name: part * rows[name] if name in rows else part for name, part in value.items()},
            {name: part * rows[name] if name in rows else part for name, part in cover.items()},
        )

    def narrower(self, x: Params, width: float, round: int) -> Params:
        """What any client of this capability would be sent; with a plan that draws, one draw of it."""
        return self.units.cut(x, replace(self, width=None).keep(Ctx(round, width, random.key(round))))

    def idle(self, ctx: Ctx) -> bool:
        """Whether a client is too weak to take part."""
        return ctx.capability < self.least

    def mistakes(self, capabilities: Iterable[float]) -> list[str]:
        """Why clients of these capabilities cannot be sent a sub-model."""
        shares = sorted(set(capabilities)) if self.width is None else [self.width]
        return [text for share in shares if share >= self.least for text in sliced_at(self.units, share)]


def _rows(own: Tensor, part: Tensor) -> Tensor:
    return own.to(part.dtype).reshape(-1, *(1 for _ in part.shape[1:]))
