"""The codec of FedAvg: what is communicated is what is learned."""

from __future__ import annotations

from dataclasses import dataclass

from fedsep import tree
from fedsep.core import Ctx, Decoded, Info, Params, Shard


@dataclass(frozen=True)
class Identity:
    """y = x and dx = dy: the Jacobian of decode is the identity.

    Bytes:
        Up and down: the model's, 4 d in float32.
    """

    def init(self, params: Params) -> Params:
        """x_1 is the model."""
        return params

    def enroll(self, x: Params, ctx: Ctx) -> tuple[()]:
        """Nothing is remembered."""
        return ()

    def decode(self, x: Params, memory: tuple[()], shard: Shard, ctx: Ctx) -> tuple[Decoded, tuple[()]]:
        """y = x."""
        return Decoded(x), memory

    def encode(
        self, start: Decoded, y: Params, x: Params, memory: tuple[()], shard: Shard, ctx: Ctx
    ) -> tuple[Params, tuple[()], Info]:
        """dx = dy."""
        return tree.sub(y, start.y), memory, {}

    def advance(self, x: Params, round: int) -> tuple[Params, bool]:
        """Nothing happens between rounds."""
        return x, False

    def model(self, x: Params) -> Params:
        """x itself."""
        return x
