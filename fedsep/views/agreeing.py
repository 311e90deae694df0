"""What clients are sent by Flash: nothing in the first stage, as both ends have the start; then the kept weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fedsep.codecs.agreeing import Agreeing, Found
from fedsep.core import Ctx, FedSepError, Tree
from fedsep.sparsity.density import share_of
from fedsep.sparsity.masks import counts, parts_of
from fedsep.views.kept import KeptWeights


@dataclass(frozen=True)
class UntilAgreed:
    """Nothing down and the layers' counts up until densities are agreed; then as ``view``.

    Attributes:
        view: Of the second stage.

    Bytes:
        In the first stage 0 down, 4 for each layer up; then those of ``view``.
    """

    view: KeptWeights

    def cut(self, x: Agreeing, ctx: Ctx) -> Tree:
        """The kept weights; nothing in the first stage."""
        return self.view.cut(x, ctx) if x["agreed"] else {}

    def like(self, x: Agreeing, ctx: Ctx) -> Tree:
        """A change, or counts."""
        return self.view.like(x, ctx) if x["agreed"] else Found(counts=_sizes(self, x).to(torch.int32))

    def paste(self, dx: Any, x: Agreeing, ctx: Ctx) -> tuple[dict[str, Tree], dict[str, Tree] | None]:
        """The change of the model and its masks; in the first stage, that of the layers' densities."""
        if x["agreed"]:
            return self.view.paste(dx, x, ctx)
        masking = self.view.masking
        if bool((dx["counts"] < 1).any()) or bool((dx["counts"] > _sizes(self, x)).any()):
            raise FedSepError("the reply says of a layer that it has no weights, or more than there are")
        # Relative to what it began with: who holds less tells as much about layers as who holds more.
        began = parts_of(counts(x["mask"], masking.layers), share_of(masking.scale, ctx.capability))
        grown = dx["counts"].to(x["density"]) / x["density"].new_tensor(began)
        return {"density": x["density"] * (grown - 1)}, None


def _sizes(view: UntilAgreed, x: Agreeing) -> Tensor:
    sizes = [x["model"][name].numel() for name in view.view.masking.layers]
    return torch.tensor(sizes, device=x["density"].device)
