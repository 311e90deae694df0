"""What server and clients have agreed about masks: which layers, who holds how much, and when positions must travel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from torch import Tensor

from fedsep.class_rows import ClassRows
from fedsep.core import Ctx, Params
from fedsep.sparsity.density import Distribution, Scale, layer_densities, quotas, share_of
from fedsep.sparsity.growth import Readjustment
from fedsep.sparsity.masks import Masks, part_of
from fedsep.sparsity.weighed import ByUnit
from fedsep.wires.indices import IndexCode


class Sparse(TypedDict):
    """x of methods with masks.

    Attributes:
        model: The server's model, 0 outside of its masks.
        mask: Of each sparse layer.
        since: The round in which clients were first sent these masks.
        round: Number of the round to come.
    """

    model: Params
    mask: Masks
    since: Tensor
    round: Tensor


Profile = Callable[[Any, float], list[float]]
"""x and the part of the full density that a client holds, to the density of each of its layers."""


@dataclass(frozen=True)
class Spread:
    """A client's layers are as dense as those of a server's model of the client's density would be.

    Attributes:
        layers: Names of the sparse layers.
        density: Of the server's model.
        distribution: Over layers.
    """

    layers: tuple[str, ...]
    density: float
    distribution: Distribution

    def __call__(self, x: Sparse, share: float) -> list[float]:
        """The densities, by the layers' shapes alone."""
        return layer_densities(x["model"], self.layers, self.density * share, self.distribution)


@dataclass(frozen=True)
class Masking:
    """See the module.

    Attributes:
        layers: Names of the sparse layers.
        scale: How a client's density follows from its capability.
        profile: How it is spread over layers.
        code: How positions are written.
        moves: When clients change their own masks.
        rows: Of the classes, where replies say which of them the client has; else None.
        by: Of the units, where replies say how much each matters to the client; else None.
    """

    layers: tuple[str, ...]
    scale: Scale
    profile: Profile
    code: IndexCode
    moves: Readjustment
    rows: ClassRows | None = None
    by: ByUnit | None = None

    def given(self, x: Sparse, ctx: Ctx) -> Masks:
        """What a client is given: the server's masks, or the largest weights in them as far as it can hold them."""
        share = share_of(self.scale, ctx.capability)
        if share >= 1:
            return x["mask"]
        sizes = [x["model"][name].numel() for name in self.layers]
        return part_of(x["model"], x["mask"], quotas(self.profile(x, share), sizes))

    def told(self, x: Sparse, ctx: Ctx) -> bool:
        """Whether the client must be sent the positions.

        Under ``constant`` the client has them if it has taken part since the server's masks last changed. Otherwise
        they depend on today's weights and on today's capability, and the server cannot know what it has.
        """
        return self.scale != "constant" or ctx.seen < int(x["since"])

    def moving(self, ctx: Ctx) -> bool:
        """Whether the client changes its masks in this round, so that positions go up."""
        return self.moves.part(ctx.round) > 0


def started(model: Params, mask: Masks) -> Sparse:
    """x_1."""
    return {"model": model, "mask": mask, "since": torch.tensor(0), "round": torch.tensor(0)}
