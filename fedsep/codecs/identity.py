"""The codec of FedAvg: what is communicated is what is learned."""

from __future__ import annotations

from dataclasses import dataclass

from fedsep import tree
from fedsep.core import Ctx, Decoded, Info, Params, Shard, Tree


@dataclass(frozen=True)
class Identity:
    """y = x and dx = dy: the Jacobian of decode is the identity.

    Bytes:
        Up and down: the model's, 4 d in float32.
    """

    def init(self, params: Params) -> Tree:
        """x_1 is the model."""
        return params

    def enroll(self, x: Tree, ctx: Ctx) -> tuple[()]:
        """Nothing is remembered."""
        return ()

    def decode(self, x: Tree, memory: tuple[()], shard: Shard, ctx: Ctx) -> tuple[Decoded, tuple[()]]:
        """y = x."""
        return Decoded(x), memory

    def encode(
        self, start: Decoded, y: Params, x: Tree, memory: tuple[()], shard: Shard, ctx: Ctx
    ) -> tuple[Tree, tuple[()], Info]:
        """dx = dy."""
        return tree.sub(y, start.y), memory, {}

    def advance(self, x: Tree, round: int) -> tuple[Tree, bool]:
        """Nothing happens between rounds."""
        return x, False

    def model(self, x: Tree) -> Params:
        """x itself."""
        return x
