"""A plan for each client: it ranks all units itself, reports the ranking, and is cut from it what it can hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

import torch
from torch import Tensor

from fedsep import tree
from fedsep.core import Ctx, Params, Tree
from fedsep.models.ranking import Ranking, chosen, natural, places, ranked, read_ranking, shortened
from fedsep.models.units import kept
from fedsep.views.refresh import Refresh
from fedsep.views.submodel import Submodel


class Scored(TypedDict):
    """x of methods whose units are scored.

    Attributes:
        model: The model.
        scores: By group, what clients said of its units, on average: shape (n,) or (clusters, n).
        second: Where clients send a change of the whole model beside that of their sub-model: what they change, and 0
            between rounds, since the model moves by both.
    """

    model: Params
    scores: dict[str, Tensor]
    second: NotRequired[Params]


@dataclass(frozen=True)
class Personal:
    """The client's own ranking of every group; both ends cut from it the units of any capability.

    At a refresh the client is sent the whole model, ranks its units, trains the sub-model of the new ranking and
    reports the ranking beside the change; with ``held`` it is sent its sub-model at a refresh too, ranks the units that
    it has before all others, and the new ranking holds from the next round on. The server keeps the mean of the
    places that clients give to units: what it would serve.

    With ``both``, a client whose sub-model is not the whole model sends at a refresh a change of the whole model, too;
    those that do not have one of 0, and everybody covers all of it.

    Bytes:
        Down: 4 a number of the sub-model; of the whole model at a refresh, without ``held``. Up: as ``Submodel``, and
        at a refresh 2 for each unit of the whole model; with ``both`` then also 4 for each of its numbers.

    Attributes:
        part: What is cut, and what is told beside a change.
        refresh: When clients rank.
        rolling: Share of a client's units that rolls over those that are not among its best.
        held: Whether units are scored on the sub-model.
        both: Whether clients send the second term of Eq. (8), which needs the whole model.
    """

    part: Submodel
    refresh: Refresh
    rolling: float = 0.0
    held: bool = False
    both: bool = False

    def ranking(self, ctx: Ctx) -> Ranking:
        """The client's ranking as it reported it; before that, the units in the order of their numbers."""
        sizes = self.part.units.sizes
        if ctx.report is None:
            return natural(sizes)
        return {group: ctx.report["ranking"][group].to(torch.int64) for group in sizes}

    def keep(self, ctx: Ctx, ranking: Ranking) -> dict[str, Tensor]:
        """The units that the client has of each group, by a ranking."""
        counts = self.part.counts(ctx.capability)
        return {group: chosen(ranking[group], count, self.rolling, ctx.round) for group, count in counts.items()}

    def whole(self, ctx: Ctx) -> bool:
        """Whether the client is sent the whole model."""
        return self.refresh.due(ctx) and not self.held

    def second(self, ctx: Ctx) -> bool:
        """Whether the client sends a change of the whole model beside that of its sub-model."""
        return self.both and self.whole(ctx) and self.part.counts(ctx.capability) != self.part.units.sizes

    def report(self, ctx: Ctx, ranking: Ranking | None) -> dict[str, Tree]:
        """What a client reports: a new ranking, or the old one where its age must be counted on; else nothing."""
        if ranking is not None:
            return {"ranking": shortened(ranking, self.part.units.sizes), **self.refresh.stamps(ctx)}
        return {**ctx.report, **self.refresh.stamps(ctx)} if self.refresh.again(ctx) else {}

    def cut(self, x: Scored, ctx: Ctx) -> Params:
        """The client's sub-model, or the whole model."""
        return x["model"] if self.whole(ctx) else self.part.units.cut(x["model"], self.keep(ctx, self.ranking(ctx)))

    def like(self, x: Scored, ctx: Ctx) -> Tree:
        """A change of a sub-model, and what is told beside it."""
        any_ranking = natural(self.part.units.sizes)
        part = self.part.units.cut(x["model"], self.keep(ctx, any_ranking))
        told = self.part.told(part, self.part.counts(ctx.capability))
        told = {**told, "second": x["model"]} if self.second(ctx) else told
        report = self.report(ctx, any_ranking if self.refresh.due(ctx) else None)
        return {**told, "report": report} if report else told

    def paste(self, dx: Any, x: Scored, ctx: Ctx) -> tuple[Scored, Scored]:
        """The change in the shapes of x, with the places that the client's ranking gives; and where it holds x."""
        sizes, due = self.part.units.sizes, self.refresh.due(ctx)
        reported = read_ranking(dx["report"]["ranking"], sizes) if "report" in dx else self.ranking(ctx)
        trained = reported if due and not self.held else self.ranking(ctx)
        value, cover = self.part.spread(dx, x["model"], self.keep(ctx, trained), ctx)
        scores = {group: part.to(x["scores"][group]) for group, part in places(reported).items()}
        heard = {group: torch.full_like(part, float(due)) for group, part in scores.items()}
        changes: Scored = {"model": value, "scores": tree.map(torch.mul, scores, heard)}
        covers: Scored = {"model": cover, "scores": heard}
        if self.both:
            changes["second"], covers["second"] = self._second(dx, x["model"]), tree.map(torch.ones_like, x["model"])
        return changes, covers

    def _second(self, dx: Any, like: Params) -> Params:
        """The change of the whole model, without the rows of classes that the client has not; 0 where none came."""
        if "second" not in dx:
            return tree.zeros_like(like)
        return self.part.own({name: dx["second"][name] for name in like}, dx)

    def keeps(self, x: Scored, ctx: Ctx) -> dict[str, Tensor]:
        """The client's units by its last report."""
        return self.keep(ctx, self.ranking(ctx))

    def trains(self, x: Scored, ctx: Ctx, report: Tree) -> dict[str, Tensor]:
        """The units that the client trained in a round after which its report was this."""
        return self.keeps(x, ctx._replace(report=report) if self.whole(ctx) else ctx)

    def submodel(self, x: Scored, params: Params, ctx: Ctx) -> Params:
        """The client's sub-model of any parameters."""
        return self.part.units.cut(params, self.keeps(x, ctx))

    def narrower(self, x: Scored, params: Params, width: float, round: int) -> Params:
        """The units to which clients give the first places on average."""
        keep = {
            group: chosen(order, kept(len(order), width), 0.0, round) for group, order in ranked(x["scores"]).items()
        }
        return self.part.units.cut(params, keep)

    def mistakes(self, capabilities: Iterable[float]) -> list[str]:
        """Why clients of these capabilities cannot be sent a sub-model."""
        return self.part.mistakes(capabilities)
