"""What a client is sent where the server's news come as messages: those it missed, or everything when smaller."""

from __future__ import annotations

from dataclasses import dataclass

from fedsep import tree
from fedsep.codecs.spaces import Space
from fedsep.core import ASTRAY, Ctx, Payload, Tree
from fedsep.servers.announce import Announced


@dataclass(frozen=True)
class Missed:
    """Sends the messages of all rounds since the client's last accepted one.

    Bytes:
        Down: one message a round for a client that is never away (nothing in round 0), all it missed for the
        others, or the model in full when that is smaller, or when the client's memory is not what it should be.
    """

    space: Space

    def cut(self, x: Announced, ctx: Ctx) -> dict[str, Payload]:
        """``{"missed": messages, oldest first}``, or ``{"anchor": ..., "omega": ...}``."""
        count = ctx.round - max(ctx.seen, 0)
        everything = self._everything(x, ctx)
        if ctx.seen == ASTRAY or count > len(x["history"]):
            return everything
        missed = x["history"][len(x["history"]) - count :]
        return {"missed": missed} if tree.nbytes(missed) <= tree.nbytes(everything) else everything

    def like(self, x: Announced, ctx: Ctx) -> dict[str, Tree]:
        """A client's change has the shape of omega."""
        return {"omega": x["omega"]}

    def paste(self, dx: dict[str, Tree], x: Announced, ctx: Ctx) -> tuple[dict[str, Tree], None]:
        """Only omega changes."""
        return dx, None

    def _everything(self, x: Announced, ctx: Ctx) -> dict[str, Tree]:
        """The anchor, unless it is the first, and x, unless a period begins with it."""
        calendar = self.space.calendar
        anchor = {"anchor": x["anchor"]} if calendar.epoch(ctx.round) > 0 or ctx.seen == ASTRAY else {}
        fresh = calendar.period is not None and calendar.begins(ctx.round)
        return {**anchor, **({} if fresh else {"omega": x["sent"]})}
