"""What a client is sent where few coordinates change: those that changed since it was last seen, or all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor

from fedsep import tree
from fedsep.core import ASTRAY, Ctx, Params
from fedsep.servers.track import Tracked


class Some(TypedDict):
    """Coordinates by their place in the model's vector, names in order (int32), with their values."""

    index: Tensor
    value: Tensor


class All(TypedDict):
    """The whole model."""

    model: Params


Patch = Some | All


@dataclass(frozen=True)
class Changes:
    """Sends index and value of every coordinate that changed since the client's last accepted round.

    Bytes:
        Down: 8 a coordinate that changed while the client was away (nothing in round 0), or 4 d when that is
        smaller.
    """

    def cut(self, x: Tracked, ctx: Ctx) -> Patch:
        """``{"index": (k,) int32, "value": (k,)}`` or ``{"model": ...}``."""
        model = _flat(x["model"])
        if ctx.seen == ASTRAY:
            return {"model": x["model"]}
        index = (_flat(x["changed"]) >= max(ctx.seen, 0)).nonzero()[:, 0]
        patch: Patch = {"index": index.to(torch.int32), "value": model[index]}
        return patch if tree.nbytes(patch) <= tree.nbytes(model) else {"model": x["model"]}

    def like(self, x: Tracked, ctx: Ctx) -> Params:
        """A client's change has the shape of the model."""
        return x["model"]

    def paste(self, dx: Params, x: Tracked, ctx: Ctx) -> tuple[dict[str, Params], None]:
        """Only the model changes."""
        return {"model": dx}, None


def _flat(params: Params) -> Tensor:
    """One vector, in the order of the names."""
    return torch.cat([params[name].reshape(-1) for name in sorted(params)])
