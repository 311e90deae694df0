"""Local steps on the architecture that a client's capability gives it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fedsep.core import Ctx, Decoded, Info, Params, Shard
from fedsep.learners.sgd import SGD
from fedsep.zoo import Zoo


@dataclass(frozen=True)
class ByCapability:
    """SGD on the loss of the client's own architecture.

    Attributes:
        sgd: The local steps.
        zoo: Which architecture a client has.
    """

    sgd: SGD
    zoo: Zoo

    def learn(self, start: Decoded, shard: Shard, ctx: Ctx) -> tuple[Params, Info]:
        """y_I, and the mean minibatch loss of the round."""
        task = self.zoo.members[self.zoo.name(ctx.capability)]
        return replace(self.sgd, task=task).learn(start, shard, ctx)
