"""What a client of a sparse model is sent: the weights inside its masks, and where they are if it does not know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fedsep import class_rows, tree
from fedsep.class_rows import times
from fedsep.core import Ctx, Params, Tree
from fedsep.sparsity import weighed
from fedsep.sparsity.masking import Masking, Sparse
from fedsep.sparsity.masks import Masks
from fedsep.sparsity.places import Kept, read_masks, with_places, with_zeros, without_zeros


@dataclass(frozen=True)
class KeptWeights:
    """Sends and reads models without their zeros.

    A client's change is 0 outside of its masks, which is what its cover says; beside it stands how its masks differ
    from those that it was given, 1 for what has grown and -1 for what was pruned. Where replies say which classes a
    client has, its change covers only their rows of the model's last layer; where they say how important each unit is,
    its weights are covered by that much.

    Attributes:
        masking: What both ends know about masks.
        varies: Whether clients move weights from layer to layer, so that only the number of all is known.

    Bytes:
        Down: 4 for every weight inside the client's masks and for every other parameter; the positions where they are
        told. Up: the same, with the positions in rounds in which masks move, and a bit for each class where they are
        told, and 4 for each unit where importances are.
    """

    masking: Masking
    varies: bool = False

    def cut(self, x: Sparse, ctx: Ctx) -> Kept:
        """The model inside the client's masks."""
        given = self.masking.given(x, ctx)
        kept = without_zeros(x["model"], given)
        return with_places(kept, given, self.masking.code) if self.masking.told(x, ctx) else kept

    def like(self, x: Sparse, ctx: Ctx) -> Tree:
        """A change inside the client's masks as they were given."""
        given = self.masking.given(x, ctx)
        kept = without_zeros(tree.zeros_like(x["model"]), given)
        if self.masking.moving(ctx):
            kept = with_places(kept, given, self.masking.code, whole=self.varies)
        return weighed.like(self.masking.by, class_rows.like(self.masking.rows, kept, x["model"]), x["model"])

    def paste(self, dx: Any, x: Sparse, ctx: Ctx) -> tuple[dict[str, Tree], dict[str, Tree]]:
        """The change of the model and of the masks, and where the client holds the model and was given masks."""
        given, by = self.masking.given(x, ctx), self.masking.by
        kept, rows = class_rows.heard(self.masking.rows, weighed.heard(by, dx), x["model"])
        own = read_masks(kept, kept["places"], x["mask"], self.masking.code) if "places" in kept else given
        value = {"model": times(with_zeros(kept, own, x["model"]), rows), "mask": tree.sub(own, given)}
        held = times(_held(x["model"], own), rows)
        return value, {"model": held if by is None else by.weigh(held, dx, x["model"], ctx), "mask": given}


def _held(model: Params, own: Masks) -> Params:
    return {name: own[name] if name in own else part.new_ones(part.shape) for name, part in model.items()}
