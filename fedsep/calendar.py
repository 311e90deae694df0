"""When a sketch is re-drawn: both ends count its periods alike."""

from __future__ import annotations

from dataclasses import dataclass

from fedsep.core import Ctx


@dataclass(frozen=True)
class Calendar:
    """When the sketch is re-drawn: every ``period`` rounds, or never (None)."""

    period: int | None

    def epoch(self, round: int) -> int:
        """The number of the sketch that is in use in ``round``; that of round -1 is 0, too."""
        return max(round, 0) // self.period if self.period else 0

    def begins(self, round: int) -> bool:
        """Whether a new sketch is first used in ``round``: then x is 0, which nobody needs to be sent."""
        return round == 0 or (self.period is not None and round % self.period == 0)

    def renewed(self, ctx: Ctx) -> bool:
        """Whether a client's coordinates mean something else now than in its last accepted round."""
        return self.epoch(ctx.round) != self.epoch(ctx.seen)
