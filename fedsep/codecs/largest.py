"""The codec of ZeroFL: y = x, and of dy the client sends the coordinates that it finds largest."""

from __future__ import annotations

from dataclasses import dataclass

from fedsep import class_rows, tree
from fedsep.class_rows import own_rows
from fedsep.codecs.identity import Identity
from fedsep.core import Ctx, Decoded, Info, Params, Shard, Tree
from fedsep.learners.swat import sparsest
from fedsep.sparsity import weighed
from fedsep.sparsity.masks import largest_of
from fedsep.sparsity.places import with_places, without_zeros
from fedsep.views.largest import Upload


@dataclass(frozen=True)
class Largest(Identity):
    """y_0 = x; dx has a part of each sparse layer's coordinates, and all of the other parameters.

    Attributes:
        upload: Which coordinates are sent.
        densities: Parts of each sparse layer that the server's model may keep when it is evaluated, the largest first.
    """

    upload: Upload
    densities: tuple[float, ...]

    def encode(
        self, start: Decoded, y: Params, x: Params, memory: tuple[()], shard: Shard, ctx: Ctx
    ) -> tuple[Tree, tuple[()], Info]:
        """The largest coordinates of y or of dy, where they are, and what is told beside them."""
        own = {name: y[name] for name in start.y}  # a learner may have put importances beside it
        dy, layers, variant = tree.sub(own, start.y), self.upload.layers, self.upload.variant
        counted = self._own(dy if variant == "top_k_diff" else own, shard)
        masks = largest_of(counted, layers, self.upload.counts(own, ctx))
        sent = {**dy, **{name: own[name] for name in layers}} if variant == "top_k_weights" else dy
        kept = with_places(without_zeros(sent, masks), masks, self.upload.code)
        return weighed.told(self.upload.by, class_rows.told(self.upload.rows, kept, shard), y), memory, {}

    def _own(self, y: Params, shard: Shard) -> Params:
        """0 in the rows of classes that the client has not: the server would not read what it sends of them."""
        own = own_rows(self.upload.rows, shard)
        return own.paste(own.cut(y), tree.zeros_like(y))

    def model(self, x: Params) -> Params:
        """The largest weights of x: what was trained sparse is good for nothing when all weights are used."""
        return self.sparser(x, self.densities[0])

    def sparser(self, params: Params, density: float) -> Params:
        """The largest ``density`` of each sparse layer's weights, 0 elsewhere."""
        if density >= 1:
            return params
        return {name: sparsest(part, density) if name in self.upload.layers else part for name, part in params.items()}
