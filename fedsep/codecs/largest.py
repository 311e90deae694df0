"""The codec of ZeroFL: y = x, and of dy the client sends the coordinates that it finds largest."""

from __future__ import annotations

from dataclasses import dataclass

from fedsep import tree
from fedsep.codecs.identity import Identity
from fedsep.core import Ctx, Decoded, Info, Params, Shard
from fedsep.learners.swat import sparsest
from fedsep.sparsity.masks import largest_of
from fedsep.sparsity.places import Kept, with_places, without_zeros
from fedsep.views.largest import Upload


@dataclass(frozen=True)
class Largest(Identity):
    """y_0 = x; dx has a part of each sparse layer's coordinates, and all of the other parameters.

    Attributes:
        upload: Which coordinates are sent.
        served: Part of each sparse layer that the server's model keeps when it is evaluated.
    """

    upload: Upload
    served: float

    def encode(
        self, start: Decoded, y: Params, x: Params, memory: tuple[()], shard: Shard, ctx: Ctx
    ) -> tuple[Kept, tuple[()], Info]:
        """The largest coordinates of y or of dy, and where they are."""
        dy, layers, variant = tree.sub(y, start.y), self.upload.layers, self.upload.variant
        masks = largest_of(dy if variant == "top_k_diff" else y, layers, self.upload.counts(y, ctx))
        sent = {**dy, **{name: y[name] for name in layers}} if variant == "top_k_weights" else dy
        return with_places(without_zeros(sent, masks), masks, self.upload.code), memory, {}

    def model(self, x: Params) -> Params:
        """The largest weights of x: what was trained sparse is good for nothing when all weights are used."""
        if self.served >= 1:
            return x
        return {name: sparsest(part, self.served) if name in self.upload.layers else part for name, part in x.items()}
