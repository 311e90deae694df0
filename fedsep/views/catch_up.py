"""What a client of a re-drawn sketch is sent: the coordinates it missed, or everything when that is smaller."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypedDict

import torch
from torch import Tensor

from fedsep import tree
from fedsep.calendar import Calendar
from fedsep.core import ASTRAY, Ctx, Params, Tree


class SketchState(TypedDict):
    """The communication state (anchor, omega) on the server.

    ``history`` has the coordinates at the end of the latest periods, shape (k, p): what absent clients missed.
    """

    anchor: Params
    omega: Tensor
    history: Tensor
    epoch: Tensor
    digest: Tensor


class _Cuts:
    """What was cut of the latest state: clients that lack the same are sent one tensor, and need not compare it."""

    def __init__(self) -> None:
        self._x: tuple[Tensor, Tensor] | None = None
        self._known: dict[tuple[int, int], Tensor] = {}

    def of(self, x: SketchState, missed: int, rows: list[Tensor]) -> Tensor:
        """The rows as one tensor, kept while x is the same and they are no more than the model's numbers in all."""
        if self._x is None or self._x[0] is not x["history"] or self._x[1] is not x["omega"]:
            self._x, self._known = (x["history"], x["omega"]), {}
        place = (missed, len(rows))
        if place in self._known:
            return self._known[place]
        cut = torch.stack(rows) if rows else x["omega"].new_zeros(0, x["omega"].numel())
        if sum(part.numel() for part in self._known.values()) + cut.numel() <= tree.size(x["anchor"]):
            self._known[place] = cut
        return cut


@dataclass(frozen=True)
class CatchUp:
    """Sends the coordinates of every period that ended since the client was last seen, then the current ones.

    Bytes:
        Down: 4 p a round for a client that is never away (0 in round 0); 4 p more for every period that
        ended while it was away, or 4 d + 4 p when that is smaller. Up: 4 p.
    """

    calendar: Calendar
    _cuts: _Cuts = field(default_factory=_Cuts, compare=False, repr=False)

    def cut(self, x: SketchState, ctx: Ctx) -> dict[str, Tree]:
        """``{"omegas": (k, p)}``, or ``{"anchor": ..., "omega": (p,)}`` when that has fewer numbers."""
        missed = self.calendar.epoch(ctx.round) - self.calendar.epoch(ctx.seen)
        current = [] if self.calendar.begins(ctx.round) else [x["omega"]]
        history, omega = x["history"], x["omega"]
        dimension = tree.size(x["anchor"])
        if ctx.seen == ASTRAY or missed > len(history) or missed * omega.numel() > dimension:
            return {"anchor": x["anchor"], **({"omega": omega} if current else {})}
        rows = [*history[len(history) - missed :], *current]
        return {"omegas": self._cuts.of(x, missed, rows)}

    def like(self, x: SketchState, ctx: Ctx) -> dict[str, Tensor]:
        """A client's change has the shape of omega."""
        return {"omega": x["omega"]}

    def paste(self, dx: dict[str, Tensor], x: SketchState, ctx: Ctx) -> tuple[dict[str, Tensor], None]:
        """Only omega changes; anchor and history are the codec's."""
        return dx, None
