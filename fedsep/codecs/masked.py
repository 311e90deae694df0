"""The codec of sparse models: local steps stay inside masks, which the client may change before or after them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from fedsep import class_rows, random, tree
from fedsep.class_rows import ClassRows, OwnRows, own_rows
from fedsep.core import Ctx, Decoded, Info, Params, Shard, Task, Tree
from fedsep.gradients import value_and_gradient
from fedsep.learners.batches import minibatches
from fedsep.learners.own_classes import masked as masked_task
from fedsep.sparsity import weighed
from fedsep.sparsity.growth import Readjustment, grown_by_chance, grown_by_gradient
from fedsep.sparsity.masking import Masking, Sparse, started
from fedsep.sparsity.masks import Masks, masked
from fedsep.sparsity.places import Kept, Places, read_masks, with_places, with_zeros, without_zeros
from fedsep.wires.promises import varies

_GROWTH = 8101  # what the client's key is folded with to draw for a readjustment


class Growth(Protocol):
    """How a client changes its masks."""

    def __call__(self, y: Params, masks: Masks, shard: Shard, ctx: Ctx) -> Masks:
        """The masks it goes on with, of as many weights as before."""
        ...


@dataclass(frozen=True)
class Masked:
    """y_0 is the model inside the client's masks, and every step is followed by the masks; dx = dy inside them.

    Attributes:
        like: The model's parameters, for their names and shapes.
        initial: The server's first masks.
        masking: What both ends know about masks.
        early: Changes the masks before the local steps; None: nothing does.
        late: Changes them after the local steps.
    """

    like: Params
    initial: Masks
    masking: Masking
    early: Growth | None = None
    late: Growth | None = None

    def init(self, params: Params) -> Sparse:
        """The model inside the first masks."""
        return started(masked(params, self.initial), self.initial)

    def enroll(self, x: Kept, ctx: Ctx) -> Places:
        """No positions are known yet."""
        return {}

    def decode(self, x: Kept, memory: Places, shard: Shard, ctx: Ctx) -> tuple[Decoded, Places]:
        """The model and the masks, whose positions are remembered."""
        places = x.get("places", memory)
        masks = read_masks(x, places, self.like, self.masking.code)
        y = with_zeros(x, masks, self.like)
        if self.early is not None and self.masking.moving(ctx):
            masks = self.early(y, masks, shard, ctx)
        return inside(y, masks), places

    def encode(
        self, start: Decoded, y: Params, x: Kept, memory: Places, shard: Shard, ctx: Ctx
    ) -> tuple[Tree, Places, Info]:
        """dy inside the client's masks; their positions, where they may have moved; what is told beside it."""
        masks: Masks = start.residual
        own = {name: y[name] for name in start.y}  # a learner may have put importances beside it
        if self.late is not None and self.masking.moving(ctx):
            masks = self.late(own, masks, shard, ctx)
        kept = without_zeros(tree.sub(own, start.y), masks)
        if self.masking.moving(ctx):
            kept = with_places(kept, masks, self.masking.code, whole=varies(self.early))
        return weighed.told(self.masking.by, class_rows.told(self.masking.rows, kept, shard), y), memory, {}

    def advance(self, x: Sparse, round: int) -> tuple[Sparse, bool]:
        """The clock moves."""
        return {**x, "round": torch.tensor(round)}, False

    def model(self, x: Sparse) -> Params:
        """The server's model, 0 outside of its masks."""
        return x["model"]


def inside(y: Params, masks: Masks) -> Decoded:
    """Where learning starts inside masks, and that it stays there."""
    return Decoded(masked(y, masks), project=lambda y: masked(y, masks), residual=masks)


@dataclass(frozen=True)
class ByGradient:
    """The smallest weights go, those of largest gradient come: on one minibatch, of all weights, zeros too.

    Attributes:
        task: Gives the gradient.
        moves: How much moves in which round.
        batch_size: Examples of the minibatch; None takes all.
        rows: Of the classes, where a client trains its own only: in those of others nothing goes or comes.
    """

    task: Task
    moves: Readjustment
    batch_size: int | None
    rows: ClassRows | None = None

    def __call__(self, y: Params, masks: Masks, shard: Shard, ctx: Ctx) -> Masks:
        """Layer by layer."""
        own, task = own_rows(self.rows, shard), masked_task(self.task, shard, self.rows and self.rows.classes)
        [batch] = minibatches(shard.train, random.fold(ctx.key, _GROWTH), self.batch_size, 1)
        _, gradient = value_and_gradient(lambda y: task.loss(y, batch), y)
        moved = grown_by_gradient(own.cut(y), own.cut(masks), own.cut(gradient), self.moves.part(ctx.round))
        return own.paste(moved, masks)


@dataclass(frozen=True)
class ByChance:
    """The smallest weights go, others come at random, more of them in layers of larger weights.

    Attributes:
        moves: How much moves in which round.
        rows: As for ``ByGradient``.
        varies: Weights move from layer to layer.
    """

    varies: ClassVar[bool] = True

    moves: Readjustment
    rows: ClassRows | None = None

    def __call__(self, y: Params, masks: Masks, shard: Shard, ctx: Ctx) -> Masks:
        """Over all layers together."""
        part, key = self.moves.part(ctx.round), random.fold(ctx.key, _GROWTH)
        return by_chance(y, masks, part, key, own_rows(self.rows, shard))


def by_chance(y: Params, masks: Masks, part: float, key: Tensor, own: OwnRows) -> Masks:
    """``grown_by_chance`` in the client's own rows; the others' stay as they are."""
    return own.paste(grown_by_chance(own.cut(y), own.cut(masks), part, key), masks)
