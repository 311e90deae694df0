"""Local steps on several models, each by itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fedsep.core import Ctx, Decoded, Info, Learner, Params, Shard
from fedsep.tasks.ensemble import joined, parted


@dataclass(frozen=True)
class PerBlock:
    """Each block of an ``Ensemble`` takes the same local steps on the same minibatches, without the others.

    Attributes:
        learner: The steps of one block.
    """

    learner: Learner

    def learn(self, start: Decoded, shard: Shard, ctx: Ctx) -> tuple[Params, Info]:
        """y_I of all blocks, and the means of what they tell."""
        learned = {n: self.learner.learn(Decoded(part), shard, ctx) for n, part in parted(start.y).items()}
        told = [info for _, info in learned.values()]
        info = {name: torch.stack([each[name] for each in told]).mean() for name in told[0]}
        return joined({number: y for number, (y, _) in learned.items()}), info
