"""Remark 2's linear codec, with a sketch that both ends re-draw as they go."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from typing import NotRequired, TypedDict

import torch
from torch import Tensor

from fedsep import tree
from fedsep.calendar import Calendar
from fedsep.codecs.spaces import Sketched
from fedsep.codecs.start import require_start
from fedsep.core import Ctx, Decoded, Info, Params, Shard
from fedsep.digest import as_digest, check_digest, fold_digest, seal
from fedsep.memo import Memo
from fedsep.operators import MakeOperator, gaussian
from fedsep.views.catch_up import SketchState


class Missed(TypedDict):
    """What a client is sent: the coordinates it lacks, a row a period, the current ones last."""

    omegas: Tensor


class Everything(TypedDict):
    """What a client is sent instead when it is smaller; no omega where it is 0."""

    anchor: Params
    omega: NotRequired[Tensor]


Received = Missed | Everything


class Anchored(TypedDict):
    """A client's memory: the anchor, and a digest of all that was folded into it."""

    anchor: Params
    digest: Tensor


@dataclass(frozen=True)
class Linear:
    """y = theta_0 + S^+ x and dx = (S^+)^T dy, S^+ = S^T (S S^T)^-1.

    beta = 0 in Eq. (4) with p < d leaves S^T S singular: Remark 2's inverse is read as the pseudo-inverse.
    Every ``period`` rounds both ends fold the decoded change into the anchor, theta_0 <- theta_0 + S^+ x,
    x <- 0, and draw a new S from a key that all clients share.

    Attributes:
        start: theta_0 of round 0, which both ends make from the seed.
        p: Communication dimension.
        calendar: When S is re-drawn.
        key: Shared by server and clients; folded with the number of the period.
        operator: Makes S.
        sent_as: The float type in which x travels: what is folded is what travelled. None: as it is.

    Bytes:
        Up: 4 p in float32. Down: 4 p; see ``fedsep.views.CatchUp`` for clients that were away.
    """

    start: Params
    p: int
    calendar: Calendar
    key: Tensor
    operator: MakeOperator = gaussian
    sent_as: torch.dtype | None = None
    _folds: Memo = field(default_factory=Memo, compare=False, repr=False)
    _digests: Memo = field(default_factory=Memo, compare=False, repr=False)

    def init(self, params: Params) -> SketchState:
        """x_1 = 0 around the anchor.

        Raises:
            FedSepError: The parameters are not those that the clients will start from.
        """
        require_start(params, self.start)
        origin = self._space.origin()
        return SketchState(
            anchor=params,
            omega=origin,
            history=origin.new_zeros(0, self.p),
            epoch=torch.tensor(0),
            digest=self._sealed,
        )

    def enroll(self, x: Received, ctx: Ctx) -> Anchored:
        """The anchor of round 0, not communicated."""
        return {"anchor": self.start, "digest": self._sealed}

    def decode(self, x: Received, memory: Anchored, shard: Shard, ctx: Ctx) -> tuple[Decoded, Anchored]:
        """Catches the anchor up with this period, checks it against the server's digest, then adds S^+ x."""
        epoch = self.calendar.epoch(ctx.round)
        if "omegas" not in x:
            memory = Anchored(anchor=x["anchor"], digest=as_digest(ctx.digest or 0))
            current = x.get("omega")
        else:
            omegas = list(x["omegas"])
            current = None if self.calendar.begins(ctx.round) else omegas.pop()
            for number, omega in enumerate(omegas, start=epoch - len(omegas)):
                memory = self._folded(memory, omega, number)
        check_digest(memory["digest"], ctx)
        anchor = memory["anchor"]
        return Decoded(anchor if current is None else self._fold(anchor, current, epoch)), memory

    def encode(
        self, start: Decoded, y: Params, x: Received, memory: Anchored, shard: Shard, ctx: Ctx
    ) -> tuple[dict[str, Tensor], Anchored, Info]:
        """(S^+)^T dy."""
        dx = self._space.lower(tree.sub(y, start.y), self.calendar.epoch(ctx.round))
        return {"omega": dx}, memory, {}

    def advance(self, x: SketchState, round: int) -> tuple[SketchState, bool]:
        """Folds x into the anchor where a new period begins."""
        if not self.calendar.begins(round):
            return x, False
        epoch, omega = self.calendar.epoch(round), self._as_sent(x["omega"])
        kept = x["history"][-(tree.size(self.start) // self.p) :]  # any longer, and the anchor is the smaller download
        after = self._folded({"anchor": x["anchor"], "digest": x["digest"]}, omega, epoch - 1)
        folded = SketchState(
            anchor=after["anchor"],
            omega=torch.zeros_like(omega),
            history=torch.cat([kept, omega[None]]),
            epoch=torch.tensor(epoch),
            digest=after["digest"],
        )
        return folded, True

    def stored(self) -> int:
        """Bytes of a sketch, where it is a stored matrix."""
        return self._space.stored()

    def sketchless(self) -> Linear:
        """The same messages about a sketch that needs no factorisation, for a check."""
        return replace(self, operator=self._space.sketchless().operator, _folds=Memo(), _digests=Memo())  # S's are here

    def model(self, x: SketchState) -> Params:
        """theta_0 + S^+ x, with x as it travels: the model that every client decodes."""
        return self._fold(x["anchor"], self._as_sent(x["omega"]), int(x["epoch"]))

    def digest(self, x: SketchState) -> int:
        """What every client's anchor must agree with."""
        return int(x["digest"])

    def _as_sent(self, omega: Tensor) -> Tensor:
        return omega if self.sent_as is None else omega.to(self.sent_as).to(omega.dtype)

    def _folded(self, memory: Anchored, omega: Tensor, epoch: int) -> Anchored:
        """The memory at the end of period ``epoch``."""
        anchor = self._fold(memory["anchor"], omega, epoch)
        before = memory["digest"]
        chained = self._digests(lambda: fold_digest(before, omega, anchor), epoch, before, omega, anchor)
        return {"anchor": anchor, "digest": chained}

    def _fold(self, anchor: Params, omega: Tensor, epoch: int) -> Params:
        """anchor + S^+ omega, S being the sketch of period ``epoch``."""
        # The smaller first, and a copy: products round by how their operands are aligned.
        return self._folds(lambda: self._space.lift(anchor, omega.clone(), epoch), epoch, omega, anchor)

    @functools.cached_property
    def _sealed(self) -> Tensor:
        """The digest before the first message: one object, so that what is the same need not be compared."""
        return seal(self.key)

    @functools.cached_property
    def _space(self) -> Sketched:
        return Sketched(self.start, self.p, self.calendar, self.key, self.operator)
