"""One plan for all clients: each says how much units matter to it, and the server ranks them by the mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fedsep.core import Ctx, FedSepError, Params, Tree
from fedsep.models.ranking import chosen, natural, ranked, shortened
from fedsep.models.units import kept
from fedsep.tree import zeros_like
from fedsep.views.personal import Scored
from fedsep.views.refresh import Refresh
from fedsep.views.submodel import Submodel


@dataclass(frozen=True)
class Shared:
    """The server's ranking, by the mean of what clients said of the units; with clusters, a mean for each of them.

    A client's scores are scaled, group by group, so that their mean is the server's of the same units: a client cannot
    shout, and one that holds few units says how they compare with one another. A client belongs to the cluster to
    whose scores its own are most similar: the cosine of their deviations from the mean, over the units that it scored.
    Before its first report it has the mean of the clusters.

    Bytes:
        Down: 4 a number of the sub-model, or of the whole model at a refresh without ``held``, and 2 for each unit of
        the sub-model. Up: as ``Submodel``, and at a refresh 4 for each scored unit; with clusters and ``held`` 2 more,
        as the report must say which units they are.

    Attributes:
        part: What is cut, and what is told beside a change.
        refresh: When clients score.
        rolling: Share of the units of a sub-model that rolls over those that are not among the best.
        held: Whether a client scores the units of its sub-model only.
        clusters: Number of rankings.
    """

    part: Submodel
    refresh: Refresh
    rolling: float = 0.0
    held: bool = False
    clusters: int = 1

    def keep(self, x: Scored, ctx: Ctx) -> dict[str, Tensor]:
        """The units that the client has of each group."""
        counts, order = self.part.counts(ctx.capability), ranked(self._scores(x, ctx))
        return {group: chosen(order[group], count, self.rolling, ctx.round) for group, count in counts.items()}

    def told(self, ctx: Ctx, scores: Mapping[str, Tensor], keep: Mapping[str, Tensor]) -> dict[str, Tree]:
        """What a client tells at a refresh: in its report, where the server must remember it."""
        stamps = self.refresh.stamps(ctx)
        if self.clusters == 1:
            return {"scores": scores, **({"report": stamps} if stamps else {})}
        units = {"units": shortened(keep, self.part.units.sizes)} if self.held else {}
        return {"report": {"scores": scores, **units, **stamps}}

    def repeated(self, ctx: Ctx) -> dict[str, Tree]:
        """The last report, where its age must be counted on; else nothing."""
        return {"report": {**ctx.report, **self.refresh.stamps(ctx)}} if self.refresh.again(ctx) else {}

    def cut(self, x: Scored, ctx: Ctx) -> dict[str, Tree]:
        """The client's sub-model, or the whole model, and which units it has."""
        keep, whole = self.keep(x, ctx), self.refresh.due(ctx) and not self.held
        model = x["model"] if whole else self.part.units.cut(x["model"], keep)
        return {"model": model, "keep": shortened(keep, self.part.units.sizes)}

    def like(self, x: Scored, ctx: Ctx) -> Tree:
        """A change of the sub-model, and what is told beside it."""
        keep = self.keep(x, ctx)
        told = self.part.told(self.part.units.cut(x["model"], keep), self.part.counts(ctx.capability))
        if not self.refresh.due(ctx):
            return {**told, **self.repeated(ctx)}
        scores = {group: part[0, : len(keep[group])] if self.held else part[0] for group, part in x["scores"].items()}
        return {**told, **self.told(ctx, scores, keep)}

    def paste(self, dx: Any, x: Scored, ctx: Ctx) -> tuple[Scored, Scored]:
        """The change in the shapes of x, with the client's scores in its cluster's row; and where it holds x."""
        keep = self.keep(x, ctx)
        self._require_units(dx, keep, ctx)
        value, cover = self.part.spread(dx, x["model"], keep, ctx)
        votes, heard = self._votes(dx, x, keep) if self.refresh.due(ctx) else [zeros_like(x["scores"])] * 2
        return {"model": value, "scores": votes}, {"model": cover, "scores": heard}

    def keeps(self, x: Scored, ctx: Ctx) -> dict[str, Tensor]:
        """The client's units."""
        return self.keep(x, ctx)

    def submodel(self, x: Scored, params: Params, ctx: Ctx) -> Params:
        """The client's sub-model of any parameters."""
        return self.part.units.cut(params, self.keep(x, ctx))

    def narrower(self, x: Scored, params: Params, width: float, round: int) -> Params:
        """The best units by the mean of the clusters' scores, and the window of this round."""
        order = ranked({group: part.mean(0) for group, part in x["scores"].items()})
        keep = {group: chosen(each, kept(len(each), width), self.rolling, round) for group, each in order.items()}
        return self.part.units.cut(params, keep)

    def mistakes(self, capabilities: Iterable[float]) -> list[str]:
        """Why clients of these capabilities cannot be sent a sub-model."""
        return self.part.mistakes(capabilities)

    def _scores(self, x: Scored, ctx: Ctx) -> dict[str, Tensor]:
        """Those of the client's cluster."""
        if self.clusters == 1 or ctx.report is None:
            return {group: part.mean(0) for group, part in x["scores"].items()}
        at = self._units_of(ctx.report) if self.held else natural(self.part.units.sizes)
        row = nearest(x["scores"], ctx.report["scores"], at)
        return {group: part[row] for group, part in x["scores"].items()}

    def _votes(self, dx: Any, x: Scored, keep: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """A client's scores, scaled, in its cluster's row, and where there are any."""
        told = dx["scores"] if self.clusters == 1 else dx["report"]["scores"]
        at = keep if self.held else natural(self.part.units.sizes)
        row = nearest(x["scores"], told, at)
        votes, heard = zeros_like(x["scores"]), zeros_like(x["scores"])
        for group, part in x["scores"].items():
            votes[group][row, at[group]] = scaled(told[group], part[row, at[group]])
            heard[group][row, at[group]] = 1.0
        return [votes, heard]

    def _require_units(self, dx: Any, keep: Mapping[str, Tensor], ctx: Ctx) -> None:
        """Refuses a report about other units than the client was sent: what it says is relied on in later rounds."""
        if "units" not in dx.get("report", {}):
            return
        known = keep if self.refresh.due(ctx) else self._units_of(ctx.report)
        if any(not torch.equal(part, known[group]) for group, part in self._units_of(dx["report"]).items()):
            raise FedSepError("the report is about other units than the client was sent")

    def _units_of(self, report: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        return {group: part.to(torch.int64) for group, part in report["units"].items()}


def scaled(told: Tensor, known: Tensor) -> Tensor:
    """A client's scores of some units, with the mean of the server's; the server's own if the client's are all 0."""
    told = told.to(known)
    return torch.where((told != 0).any(), relative(told) * known.mean(), known)


def relative(scores: Tensor) -> Tensor:
    """Scores over their mean, negative ones counted from the lowest; 1 where there is nothing to compare."""
    above = scores - scores.min().clamp_max(0.0)
    mean = above.mean()
    return torch.where(mean > 0, above / mean.clamp_min(torch.finfo(scores.dtype).tiny), 1.0)


def nearest(scores: Mapping[str, Tensor], told: Mapping[str, Tensor], at: Mapping[str, Tensor]) -> int:
    """The cluster to whose scores a client's are most similar, over the units ``at``; of equals the first."""
    rows = len(next(iter(scores.values())))
    if rows == 1:
        return 0
    own = torch.cat([relative(told[group].to(part)) - 1 for group, part in scores.items()])
    theirs = [torch.cat([relative(part[row, at[group]]) - 1 for group, part in scores.items()]) for row in range(rows)]
    return int(torch.stack([torch.cosine_similarity(own, each, 0) for each in theirs]).argmax())
