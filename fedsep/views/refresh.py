"""When a client scores its units again: at every so many of its accepted participations, which both ends count."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedsep.core import Ctx


@dataclass(frozen=True)
class Refresh:
    """Both ends tell from the client's last report whether its scores are due.

    A report says in which round it was made; a client whose last accepted reply is of a later round has taken part
    since. That counts to two. For longer pauses the report also says how many participations it is old, and is sent
    again, one older, in those participations that would not be counted otherwise.

    Attributes:
        every: Participations from one refresh to the next; None: there is only the first.
    """

    every: int | None

    def due(self, ctx: Ctx) -> bool:
        """Whether the client scores its units in this round."""
        if ctx.report is None or self.every == 1:
            return True
        return self.every is not None and self._age(ctx) >= self.every

    def again(self, ctx: Ctx) -> bool:
        """Whether the last report must be sent again in this round, so that the participation is counted."""
        return self.every is not None and not self.due(ctx) and self._age(ctx) + 1 < self.every

    def stamps(self, ctx: Ctx) -> dict[str, Tensor]:
        """What a report of this round says of its age: nothing where nobody counts."""
        if self.every is None or self.every == 1:
            return {}
        age = 1 if self.due(ctx) else self._age(ctx) + 1
        counted = {"age": _number(age, ctx)} if self.every > 2 else {}
        return {"round": _number(ctx.round, ctx), **counted}

    def _age(self, ctx: Ctx) -> int:
        """Accepted participations since the refresh, with that of the refresh."""
        age = int(ctx.report["age"]) if "age" in ctx.report else 1
        return age + (ctx.seen != int(ctx.report["round"]))


def _number(value: int, ctx: Ctx) -> Tensor:
    return torch.tensor(value, dtype=torch.int32, device=ctx.key.device)
