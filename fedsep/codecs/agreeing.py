"""The codec of Flash: in the first stage clients find out how dense each layer should be, then they train in masks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypedDict, cast

import torch
from torch import Tensor

from fedsep import random
from fedsep.class_rows import own_rows
from fedsep.codecs.masked import Masked, by_chance, inside
from fedsep.codecs.start import require_start
from fedsep.core import Ctx, Decoded, Info, Params, Shard, Tree
from fedsep.learners.own_classes import masked as masked_task
from fedsep.learners.sgd import SGD
from fedsep.sparsity.density import share_of
from fedsep.sparsity.masking import Sparse
from fedsep.sparsity.masks import Masks, counts, masked, parts_of, random_masks
from fedsep.sparsity.places import Kept, Places

_EPOCHS, _GROWTH = 8201, 8202  # what the client's key is folded with in the first stage


class Agreeing(Sparse):
    """x of Flash.

    Attributes:
        density: Of each layer, shape (L,); how dense layers are beside one another, so that it may be above 1.
        agreed: 1 once the first stage is over, else 0.
    """

    density: Tensor
    agreed: Tensor


class Found(TypedDict):
    """The reply of the first stage: how many weights each layer ended with, int32, shape (L,)."""

    counts: Tensor


@dataclass(frozen=True)
class Agree:
    """First stage: dynamic sparse training from both ends' first masks; dx is what became of the layers' densities.

    Then: the codec of sparse models.

    Attributes:
        masked: The codec of the second stage; its first masks are those of the first stage.
        sgd: Local steps of the first stage, an epoch at a time.
        epochs: Epochs of the first stage, each followed by a readjustment.
        rate: Part of the weights that the first readjustment moves; it falls linearly over the epochs.
        agreed: Whether there is no first stage.
        key: Of the first masks, which are random.
    """

    masked: Masked
    sgd: SGD
    epochs: int
    rate: float
    agreed: bool
    key: Tensor

    def init(self, params: Params) -> Agreeing:
        """The first masks, and the densities that they have.

        Raises:
            FedSepError: The parameters are not those that the clients start from.
        """
        require_start(params, self.masked.like)
        names = self.masked.masking.layers
        sizes = [params[name].numel() for name in names]
        held = counts(self.masked.initial, names)
        density = torch.tensor([count / size for count, size in zip(held, sizes, strict=True)])
        return {**self.masked.init(params), "density": density, "agreed": torch.tensor(int(self.agreed))}

    def enroll(self, x: Any, ctx: Ctx) -> Places:
        """No positions are known yet."""
        return {}

    def decode(self, x: Kept, memory: Places, shard: Shard, ctx: Ctx) -> tuple[Decoded, Places]:
        """The model in its masks; in the first stage, what dynamic sparse training makes of both ends' start."""
        if "values" in x:
            return self.masked.decode(x, memory, shard, ctx)
        y, masks = self.masked.like, self._first(ctx)
        rows = self.masked.masking.rows
        own, task = own_rows(rows, shard), masked_task(self.sgd.task, shard, rows and rows.classes)
        learner = replace(self.sgd, task=task, steps=None, epochs=1)
        for epoch in range(self.epochs):
            each = ctx._replace(key=random.fold(random.fold(ctx.key, _EPOCHS), epoch))
            y, _ = learner.learn(inside(y, masks), shard, each)
            part = self.rate * (1 - epoch / self.epochs)
            masks = by_chance(y, masks, part, random.fold(each.key, _GROWTH), own)
            y = masked(y, masks)
        return inside(y, masks), memory

    def _first(self, ctx: Ctx) -> Masks:
        """The masks that a client starts from: those of both ends, or a part of them as far as it can hold them."""
        share, names = share_of(self.masked.masking.scale, ctx.capability), self.masked.masking.layers
        if share >= 1:
            return self.masked.initial
        held = parts_of(counts(self.masked.initial, names), share)
        return random_masks(self.masked.like, names, held, self.key)

    def encode(
        self, start: Decoded, y: Params, x: Kept, memory: Places, shard: Shard, ctx: Ctx
    ) -> tuple[Tree, Places, Info]:
        """What the codec of sparse models says; in the first stage, how many weights each layer has."""
        if "values" in x:
            return self.masked.encode(start, y, x, memory, shard, ctx)
        held = counts(cast(Masks, start.residual), self.masked.masking.layers)
        return Found(counts=torch.tensor(held, dtype=torch.int32)), memory, {}

    def advance(self, x: Agreeing, round: int) -> tuple[Agreeing, bool]:
        """The clock moves."""
        return {**x, "round": torch.tensor(round)}, False

    def model(self, x: Agreeing) -> Params:
        """The server's model, 0 outside of its masks."""
        return x["model"]
