"""Every client is sent the server's model of its own architecture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedsep.core import Ctx, Params
from fedsep.zoo import Zoo


@dataclass(frozen=True)
class Prototypes:
    """cut takes one architecture, paste gives a change of it alone.

    Attributes:
        zoo: Which architecture a client has.

    Bytes:
        Down and up: the architecture's model, 4 a parameter in float32.
    """

    zoo: Zoo

    def cut(self, x: dict[str, Params], ctx: Ctx) -> Params:
        """The model of the client's architecture."""
        return x[self.zoo.name(ctx.capability)]

    def like(self, x: dict[str, Params], ctx: Ctx) -> Params:
        """As it is sent."""
        return self.cut(x, ctx)

    def paste(self, dx: Params, x: dict[str, Params], ctx: Ctx) -> tuple[dict[str, Params], None]:
        """The change under the architecture's name; every client counts for its own."""
        return {self.zoo.name(ctx.capability): dx}, None

    def errors(self, capabilities: Sequence[float]) -> list[str]:
        """Whether there is a model for each of these clients."""
        return self.zoo.errors(capabilities)
