"""The codec of clients with models of different architectures: each learns what it is sent."""

from __future__ import annotations

from dataclasses import dataclass

from fedsep import tree
from fedsep.core import Ctx, Decoded, Info, Params, Shard, Tree
from fedsep.zoo import Zoo


@dataclass(frozen=True)
class Population:
    """The codec of a zoo: x has a model of every architecture; a client's y is its own, dx = dy.

    Attributes:
        zoo: The architectures.
        served: Name of the model that is the server's, in the zoo or beside it.
    """

    zoo: Zoo
    served: str

    def init(self, params: Params) -> dict[str, Params]:
        """Every architecture's initial parameters; the served one's are ``params``."""
        return {**{name: member.init() for name, member in self.zoo.members.items()}, self.served: params}

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

    def advance(self, x: Tree, round: int) -> tuple[Tree, bool]:
        """Nothing happens between rounds."""
        return x, False

    def model(self, x: dict[str, Params]) -> Params:
        """The served model."""
        return x[self.served]
