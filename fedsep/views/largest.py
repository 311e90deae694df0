"""Every client is sent all of the model and replies with a part of it that it chooses itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

from fedsep import class_rows, tree
from fedsep.class_rows import ClassRows, times
from fedsep.core import Ctx, Params, Tree
from fedsep.sparsity import weighed
from fedsep.sparsity.density import Scale, quotas, share_of
from fedsep.sparsity.masks import Masks, largest
from fedsep.sparsity.places import read_masks, with_places, with_zeros, without_zeros
from fedsep.sparsity.weighed import ByUnit
from fedsep.wires.indices import IndexCode

Variant = Literal["top_k_weights", "diff_on_top_k", "top_k_diff"]
"""What is sent where: the largest weights; the changes of the largest weights; the largest changes."""


@dataclass(frozen=True)
class Upload:
    """What a client sends of each sparse layer: the same number of coordinates, whatever they are.

    Attributes:
        layers: Names of the sparse layers.
        variant: Which coordinates, and what of them.
        density: Part of a layer that a client of capability 1 trains with.
        extra: Part of a layer that is sent beside that.
        scale: How a client's density follows from its capability.
        code: How positions are written.
        rows: Of the classes, where replies say which of them the client has; else None.
        by: Of the units, where replies say how much each matters to the client; else None.
    """

    layers: tuple[str, ...]
    variant: Variant
    density: float
    extra: float
    scale: Scale
    code: IndexCode
    rows: ClassRows | None = None
    by: ByUnit | None = None

    def counts(self, params: Params, ctx: Ctx) -> list[int]:
        """How many coordinates of each layer are sent."""
        part = self.density * share_of(self.scale, ctx.capability) + self.extra
        return quotas([min(1.0, part)] * len(self.layers), [params[name].numel() for name in self.layers])


@dataclass(frozen=True)
class LargestUp:
    """Sends the model and reads the coordinates that a client chose; those that it did not choose are 0 in its reply.

    Attributes:
        upload: What both ends know about replies.
        held: Whether a client counts only where it sent something; else everywhere, but in other classes' rows.

    Bytes:
        Down: the model's. Up: 4 for each coordinate that is sent and for every parameter that is never sparse, the
        positions, a bit for each class where they are told, and 4 for each unit where importances are.
    """

    upload: Upload
    held: bool

    def cut(self, x: Params, ctx: Ctx) -> Params:
        """x."""
        return x

    def like(self, x: Params, ctx: Ctx) -> Tree:
        """A reply of the first coordinates."""
        masks = _first(x, self.upload, ctx)
        kept = with_places(without_zeros(tree.zeros_like(x), masks), masks, self.upload.code)
        return weighed.like(self.upload.by, class_rows.like(self.upload.rows, kept, x), x)

    def paste(self, dx: Any, x: Params, ctx: Ctx) -> tuple[Params, Tree | None]:
        """The change; where weights were sent, their difference from the server's."""
        by = self.upload.by
        kept, rows = class_rows.heard(self.upload.rows, weighed.heard(by, dx), x)
        sparse = {name: x[name] for name in self.upload.layers}
        masks = read_masks(kept, kept.get("places", {}), sparse, self.upload.code)
        value = with_zeros(kept, masks, x)
        if self.upload.variant == "top_k_weights":
            value |= {name: value[name] - (x[name] * mask if self.held else x[name]) for name, mask in masks.items()}
        if not self.held and self.upload.rows is None and by is None:
            return value, None
        cover = {name: masks[name] if self.held and name in masks else torch.ones_like(x[name]) for name in x}
        cover = times(cover, rows)
        return times(value, rows), cover if by is None else by.weigh(cover, dx, x, ctx)


def _first(x: Params, upload: Upload, ctx: Ctx) -> Masks:
    falling = {name: -torch.arange(x[name].numel(), device=x[name].device) for name in upload.layers}
    like = {name: part.to(x[name].dtype).reshape(x[name].shape) for name, part in falling.items()}
    counts = zip(upload.layers, upload.counts(x, ctx), strict=True)
    return {name: largest(like[name], count) for name, count in counts}
