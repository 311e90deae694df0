"""The codec of the shared plan: a client trains the sub-model it is given, and says how much the units matter to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from torch import Tensor

from fedsep import random
from fedsep.codecs.present import Present
from fedsep.core import Ctx, Decoded, Info, Params, Shard, Tree
from fedsep.scores.scorer import Scorer
from fedsep.views.personal import Scored
from fedsep.views.shared import Shared

_APART = 1e-3  # how much the clusters' first scores differ: all that counts is in which direction


class Given(TypedDict):
    """What a client is sent: its sub-model or the whole model, and the numbers of its units."""

    model: Params
    keep: dict[str, Tensor]


@dataclass(frozen=True)
class Polled:
    """y_0 = a x, a the mask of the server's best units; dx = a dy, with the client's scores of the units.

    Attributes:
        telling: What is told beside the change.
        scorer: Scores the units.
        ranks: The server's plan: the view.
        seed: Of the clusters' first scores.
    """

    telling: Present
    scorer: Scorer
    ranks: Shared
    seed: int = 0

    def init(self, params: Params) -> Scored:
        """The model, whose units are all alike; clusters differ by a little, so that they can part."""
        like, key = next(iter(params.values())), random.key(self.seed)

        def first(number: int, n: int) -> Tensor:
            if self.ranks.clusters == 1:
                return like.new_ones(1, n)
            return 1 + _APART * random.uniform(random.fold(key, number), self.ranks.clusters, n).to(like)

        sizes = self.ranks.part.units.sizes.items()
        return {"model": params, "scores": {group: first(number, n) for number, (group, n) in enumerate(sizes)}}

    def enroll(self, x: Given, ctx: Ctx) -> tuple[()]:
        """Nothing is remembered beside the report."""
        return ()

    def decode(self, x: Given, memory: tuple[()], shard: Shard, ctx: Ctx) -> tuple[Decoded, tuple[()]]:
        """The sub-model; the scores, where they are due, are the residual."""
        model, keep = x["model"], self._keep(x)
        if not self.ranks.refresh.due(ctx):
            return Decoded(model), memory
        if self.ranks.held:
            return Decoded(model, residual=self.scorer(model, shard, ctx, keep)), memory
        scores = self.scorer(model, shard, ctx, None)
        return Decoded(self.ranks.part.units.cut(model, keep), residual=scores), memory

    def encode(
        self, start: Decoded, y: Params, x: Given, memory: tuple[()], shard: Shard, ctx: Ctx
    ) -> tuple[dict[str, Tree], tuple[()], Info]:
        """dy, what is told beside it, and the scores."""
        told, _, info = self.telling.encode(start, y, start.y, memory, shard, ctx)
        more: Any = self.ranks.repeated(ctx)
        if start.residual is not None:
            more = self.ranks.told(ctx, start.residual, self._keep(x))
        return {**told, **more}, memory, info

    def advance(self, x: Scored, round: int) -> tuple[Scored, bool]:
        """Nothing happens between rounds."""
        return x, False

    def model(self, x: Scored) -> Params:
        """The whole model."""
        return x["model"]

    def _keep(self, x: Given) -> dict[str, Tensor]:
        return {group: x["keep"][group].to(torch.int64) for group in self.ranks.part.units.sizes}
