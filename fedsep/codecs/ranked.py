"""The codec of the mask method: the client's own ranking of the units says which sub-model it decodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from fedsep import tree
from fedsep.codecs.present import Present
from fedsep.core import Ctx, Decoded, Info, Params, Shard, Tree
from fedsep.models.ranking import Ranking, finite, in_common, ranked, renewed
from fedsep.scores.scorer import Scorer
from fedsep.views.personal import Personal, Scored

if TYPE_CHECKING:
    from fedsep.gates.second_term import SecondTerm


class Refreshed(NamedTuple):
    """What encode must know of a refresh: the new ranking, and phi, where the second term is encoded."""

    ranking: Ranking
    phi: Params | None = None


@dataclass(frozen=True)
class Ranked:
    """y_0 = a x, a the mask of the best units by the client's scores; dx = a dy, the first term of Eq. (8).

    At a refresh the client has all of x, and phi fitted to it: with ``second`` it then encodes the second term, too,
    unless it keeps every unit, when its mask is 1 whatever x is.

    A ranking is made of scores without noise, and of an order that all clients have in common, and kept between
    refreshes. It is proposed in a report, and holds once the reply is accepted: the client keeps what the server keeps.

    Attributes:
        telling: What is told beside the change.
        scorer: Scores the units.
        ranks: The client's plan: the view.
        second: The second term, of the gates that are the scorer; None: it is left out.
        common: Weight of the order that all clients have in common in a ranking.
    """

    telling: Present
    scorer: Scorer
    ranks: Personal
    second: SecondTerm | None = None
    common: float = 0.0

    def init(self, params: Params) -> Scored:
        """The model, whose units are all alike."""
        like = next(iter(params.values()))
        scores = {group: like.new_ones(n) for group, n in self.ranks.part.units.sizes.items()}
        x: Scored = {"model": params, "scores": scores}
        return {**x, "second": tree.zeros_like(params)} if self.ranks.both else x

    def enroll(self, x: Params, ctx: Ctx) -> tuple[()]:
        """Nothing is remembered beside the report."""
        return ()

    def decode(self, x: Params, memory: tuple[()], shard: Shard, ctx: Ctx) -> tuple[Decoded, tuple[()]]:
        """The sub-model, at a refresh that of a new ranking, which is in the residual."""
        if not self.ranks.refresh.due(ctx):
            return Decoded(x), memory
        known = self.ranks.ranking(ctx)
        if self.ranks.held:
            keep = self.ranks.keep(ctx, known)
            ranking = renewed(known, keep, self._ranking(self.scorer(x, shard, ctx, keep)))
            return Decoded(x, residual=Refreshed(ranking)), memory
        scores, phi = self._scores(x, shard, ctx)
        ranking = self._ranking(scores)
        part = self.ranks.part.units.cut(x, self.ranks.keep(ctx, ranking))
        return Decoded(part, residual=Refreshed(ranking, phi)), memory

    def encode(
        self, start: Decoded, y: Params, x: Params, memory: tuple[()], shard: Shard, ctx: Ctx
    ) -> tuple[dict[str, Tree], tuple[()], Info]:
        """dy, what is told beside it, the second term and the report where there is one."""
        told, _, info = self.telling.encode(start, y, start.y, memory, shard, ctx)
        refreshed: Refreshed | None = start.residual
        if self.second is not None and refreshed is not None and self.ranks.second(ctx):
            assert refreshed.phi is not None
            first, _ = self.ranks.part.spread(told, x, self.ranks.keep(ctx, refreshed.ranking), ctx)
            term = self.second(x, refreshed.phi, first, shard, ctx)
            told, info = {**told, "second": term.value}, {**info, "encode_residual": term.residual}
        report = self.ranks.report(ctx, refreshed.ranking if refreshed else None)
        return ({**told, "report": report} if report else told), memory, info

    def advance(self, x: Scored, round: int) -> tuple[Scored, bool]:
        """Nothing happens between rounds."""
        return x, False

    def model(self, x: Scored) -> Params:
        """The whole model."""
        return x["model"]

    def _ranking(self, scores: Mapping[str, Tensor]) -> Ranking:
        """By the scores, and what clients have in common."""
        return in_common(ranked(finite(scores)), self.common)

    def _scores(self, x: Params, shard: Shard, ctx: Ctx) -> tuple[Mapping[str, Tensor], Params | None]:
        """Of all units; with phi, from which the second term goes on, where it is encoded."""
        if self.second is None:
            return self.scorer(x, shard, ctx, None), None
        phi = self.second.scores.solve(x, shard, ctx)
        return self.second.scores.scores(phi), phi
