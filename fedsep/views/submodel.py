"""A sub-model: some units of every layer, sliced out of the server's tensors and put back where they came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fedsep import random, tree
from fedsep.class_rows import ClassRows, times
from fedsep.core import Ctx, Params, Tree
from fedsep.learners.weighing import relative
from fedsep.models.budget import Budget
from fedsep.models.units import Kept, Units, kept, sliced_at
from fedsep.views.plans import Plan, Static
from fedsep.wires.bits import packed_bytes

_SHUFFLE = int.from_bytes(b"shuffle", "big")  # what the client's key is folded with to shuffle importances


@dataclass(frozen=True)
class Importance:
    """A unit's parameters are averaged by its importance to each client, relative to the client's other units there.

    Attributes:
        shuffled: The control: the numbers of each group change places among its units.
    """

    shuffled: bool = False

    def weights(self, told: Mapping[str, Tensor], ctx: Ctx) -> dict[str, Tensor]:
        """(importance / its mean over the client's units of the group) x capability."""
        return {group: self._placed(part, number, ctx) * ctx.capability
                for number, (group, part) in enumerate(sorted(relative(dict(told)).items()))}  # fmt: skip

    def _placed(self, part: Tensor, number: int, ctx: Ctx) -> Tensor:
        if not self.shuffled:
            return part
        return part[random.permutation(random.fold(random.fold(ctx.key, _SHUFFLE), number), len(part))]


@dataclass(frozen=True)
class Submodel:
    """A client of capability p is sent ceil(p n) units of every group of n, at least one; ``plan`` says which.

    paste is the transpose of cut: the client's change at its units, 0 elsewhere; the cover is 1 where it has units.
    Where replies say which classes a client has, it covers only their rows of the model's last layer; where they say
    how important each unit is, its parameters are covered by that much; units of which nothing is said are all alike.

    Bytes:
        Down: 4 a number of the sub-model. Up: the same, a bit for each class where they are told, and 4 for each unit
        where importances are.

    Attributes:
        units: Which dimensions count the same units.
        plan: Which units a client has.
        classes: Number of classes, where replies say which of them the client has (``codecs.Present``); else None.
        importance: What is made of importances, where replies tell them; else None.
        least: Clients of a lower capability are sent nothing.
        width: Taken for every client's capability; None: its own.
        budget: How many units a capability is; None: a share p of them.
    """

    units: Units
    plan: Plan = Static()
    classes: int | None = None
    importance: Importance | None = None
    least: float = 0.0
    width: float | None = None
    budget: Budget | None = None

    def counts(self, capability: float) -> dict[str, int]:
        """How many units of each group a client has."""
        share = capability if self.width is None else self.width
        share = share if self.budget is None else self.budget(share)
        return {group: kept(n, share) for group, n in self.units.sizes.items()}

    def keep(self, ctx: Ctx) -> dict[str, Tensor]:
        """The units that a client has of each group."""
        counts = self.counts(ctx.capability).items()
        return {group: self.plan(self.units.sizes[group], count, number, ctx)
                for number, (group, count) in enumerate(counts)}  # fmt: skip

    def cut(self, x: Params, ctx: Ctx) -> Params:
        """The client's sub-model; nothing where its capability is too low to take part."""
        return {} if self.idle(ctx) else self.units.cut(x, self.keep(ctx))

    def like(self, x: Params, ctx: Ctx) -> Tree:
        """A change of the sub-model, and what is told beside it."""
        part = self.cut(x, ctx)
        if not self.tells:
            return part
        told = self.told(part, self.counts(ctx.capability) if part else {})
        return {**told, "report": {"key": ctx.key}} if self._keeps_key and ctx.report is None else told

    def told(self, part: Params, counts: Mapping[str, int]) -> dict[str, Tree]:
        """A change, and the classes and importances beside it, of a client with so many units of each group."""
        told: dict[str, Tree] = {"model": part}
        if self.classes is not None:
            device = next(iter(part.values())).device if part else None
            size = packed_bytes(self.classes, 1) if part else 0
            told["classes"] = torch.zeros(size, dtype=torch.uint8, device=device)
        if self.importance is not None:
            first = next(iter(part.values()), torch.zeros(()))
            told["importance"] = {group: first.new_ones(count) for group, count in counts.items()}
        return told

    def paste(self, dx: Any, x: Params, ctx: Ctx) -> tuple[Params, Params]:
        """The change in the shapes of x, and where, or by how much, the client holds x."""
        if self.idle(ctx):
            return tree.zeros_like(x), tree.zeros_like(x)
        return self.spread(dx if self.tells else {"model": dx}, x, self.keep(ctx), ctx)

    def spread(self, told: Any, x: Params, keep: Kept, ctx: Ctx) -> tuple[Params, Params]:
        """What is told of a sub-model that has the units ``keep``, in the shapes of x, and its cover."""
        # A reply names its parameters in any order.
        value = self.units.paste({name: told["model"][name] for name in x}, x, keep)
        cover = self.units.cover(x, keep)
        value, cover = self.own(value, told), self.own(cover, told)
        if self.importance is not None:
            even = {group: next(iter(x.values())).new_ones(len(index)) for group, index in keep.items()}
            held = ctx if self.width is None else ctx._replace(capability=self.width)  # a share of one's own, or of all
            weights = self.importance.weights({**even, **told["importance"]}, held)
            spread = {group: part.new_zeros(self.units.sizes[group]).index_copy(0, keep[group].to(part.device), part)
                      for group, part in weights.items()}  # fmt: skip
            cover = times(cover, self.units.weigh(x, spread))
        return value, cover

    def own(self, params: Params, told: Any) -> Params:
        """Parameters of the whole model, 0 in the rows of classes that a client told it has not."""
        if self.classes is None:
            return params
        return times(params, ClassRows(self.classes, self.units.outputs).marks(told["classes"], params))

    @property
    def tells(self) -> bool:
        """Whether a reply holds more than a change."""
        return self.classes is not None or self.importance is not None or self._keeps_key

    @property
    def _keeps_key(self) -> bool:
        return getattr(self.plan, "keeps_key", False)

    def keeps(self, x: Params, ctx: Ctx) -> dict[str, Tensor]:
        """The units of a client, whatever the server keeps."""
        return self.keep(ctx)

    def submodel(self, x: Params, params: Params, ctx: Ctx) -> Params:
        """A client's sub-model of any parameters, whether or not it is strong enough to take part."""
        return self.units.cut(params, self.keep(ctx))

    def narrower(self, x: Tree, params: Params, width: float, round: int) -> Params:
        """What any client of this share of the units would be sent; with a plan that draws, one draw of it."""
        plain = replace(self, width=None, budget=None)
        return self.units.cut(params, plain.keep(Ctx(round, width, random.key(round))))

    def idle(self, ctx: Ctx) -> bool:
        """Whether a client is too weak to take part."""
        return ctx.capability < self.least

    def mistakes(self, capabilities: Iterable[float], holder: str = "") -> list[str]:
        """Why clients of these capabilities cannot be sent a sub-model; ``holder``: who they are, for messages."""
        shares = sorted(set(capabilities)) if self.width is None else [self.width]
        shares = [share for share in shares if share >= self.least]
        if self.width is not None:
            holder = "every client holds"
        if self.budget is None:
            return [text for share in shares for text in sliced_at(self.units, share, holder)]
        return [text for share in shares for text in self.budget.mistakes(share)]  # it chooses what can be cut
