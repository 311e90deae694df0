"""The codec of the mask method: the client's own ranking of the units says which sub-model it decodes."""

from __future__ import annotations

from dataclasses import dataclass

from fedsep.codecs.present import Present
from fedsep.core import Ctx, Decoded, Info, Params, Shard, Tree
from fedsep.models.ranking import finite, ranked, renewed
from fedsep.scores.scorer import Scorer
from fedsep.views.personal import Personal, Scored


@dataclass(frozen=True)
class Ranked:
    """y_0 = a x, a the mask of the best units by the client's scores; dx = a dy, the first term of Eq. (8).

    A ranking is made of scores without noise and kept between refreshes. It is proposed in a report, and holds once
    the reply is accepted: the client keeps what the server keeps.

    Attributes:
        telling: What is told beside the change.
        scorer: Scores the units.
        ranks: The client's plan: the view.
    """

    telling: Present
    scorer: Scorer
    ranks: Personal

    def init(self, params: Params) -> Scored:
        """The model, whose units are all alike."""
        like = next(iter(params.values()))
        return {
            "model": params,
            "scores": {group: like.new_ones(n) for group, n in self.ranks.part.units.sizes.items()},
        }

    def enroll(self, x: Params, ctx: Ctx) -> tuple[()]:
        """Nothing is remembered beside the report."""
        return ()

    def decode(self, x: Params, memory: tuple[()], shard: Shard, ctx: Ctx) -> tuple[Decoded, tuple[()]]:
        """The sub-model, at a refresh that of a new ranking, which is the residual."""
        if not self.ranks.refresh.due(ctx):
            return Decoded(x), memory
        known = self.ranks.ranking(ctx)
        if self.ranks.held:
            keep = self.ranks.keep(ctx, known)
            return Decoded(x, residual=renewed(known, keep, finite(self.scorer(x, shard, ctx, keep)))), memory
        ranking = ranked(finite(self.scorer(x, shard, ctx, None)))
        return Decoded(self.ranks.part.units.cut(x, self.ranks.keep(ctx, ranking)), residual=ranking), memory

    def encode(
        self, start: Decoded, y: Params, x: Params, memory: tuple[()], shard: Shard, ctx: Ctx
    ) -> tuple[dict[str, Tree], tuple[()], Info]:
        """dy, what is told beside it, and the report where there is one."""
        told, _, info = self.telling.encode(start, y, start.y, memory, shard, ctx)
        report = self.ranks.report(ctx, start.residual)
        return ({**told, "report": report} if report else told), memory, info

    def advance(self, x: Scored, round: int) -> tuple[Scored, bool]:
        """Nothing happens between rounds."""
        return x, False

    def model(self, x: Scored) -> Params:
        """The whole model."""
        return x["model"]
