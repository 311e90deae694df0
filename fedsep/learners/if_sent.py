"""A client that was sent nothing learns nothing."""

from __future__ import annotations

from dataclasses import dataclass

from fedsep.core import Ctx, Decoded, Info, Learner, Params, Shard


@dataclass(frozen=True)
class IfSent:
    """Local steps, unless there are no parameters to take them on.

    Attributes:
        learner: The steps.
    """

    learner: Learner

    def learn(self, start: Decoded, shard: Shard, ctx: Ctx) -> tuple[Params, Info]:
        """y_I; y_0 and nothing to tell where there is no y."""
        return self.learner.learn(start, shard, ctx) if start.y else (start.y, {})
