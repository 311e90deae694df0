"""A codec for downlinks that send changes: every client keeps a copy of x and replays the server's messages."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from typing import Any, NotRequired, TypedDict

import torch
from torch import Tensor

from fedsep import tree
from fedsep.codecs.spaces import Sketched, Space
from fedsep.codecs.start import require_start
from fedsep.core import Ctx, Decoded, FedSepError, Info, Params, Shard, Tree, Wire
from fedsep.digest import as_digest, check_digest, fold_digest, seal
from fedsep.memo import Memo
from fedsep.servers.announce import Announced, News, heard, message_ctx


class Received(TypedDict):
    """What a client is sent: the messages that it missed, or everything; an anchor or x that both know is left out."""

    missed: NotRequired[tuple[News, ...]]
    anchor: NotRequired[Params]
    omega: NotRequired[Tree]


class Copy(TypedDict):
    """A client's copy of what the server has sent.

    Attributes:
        anchor: What was folded.
        sent: x as the messages tell it.
        digest: Of the messages and what was folded.
    """

    anchor: Params
    sent: Tree
    digest: Tensor


@dataclass(frozen=True)
class Replay:
    """y = lift(anchor, x) with x from the server's messages, dx = lower(dy).

    At the end of a period both ends fold what the messages told, anchor <- lift(anchor, x), and x starts anew;
    what the downlink had not yet said of the old x is dropped with it.

    Attributes:
        space: Where x lives.
        wire: The downlink's.
        key: Of the downlink's messages, shared by both ends.

    Bytes:
        Up: those of the uplink's wire on x. Down: see ``fedsep.views.missed``.
    """

    space: Space
    wire: Wire[Any]
    key: Tensor
    _turns: Memo = field(default_factory=Memo, compare=False, repr=False)
    _models: Memo = field(default_factory=Memo, compare=False, repr=False)

    def init(self, params: Params) -> Announced:
        """x_1: the space's origin around its first anchor.

        Raises:
            FedSepError: The parameters are not those that the clients will start from.
        """
        first = self._first
        require_start(params, self._model(first["anchor"], first["sent"], 0))
        return self.started()

    def started(self) -> Announced:
        """The space's origin, and no messages yet."""
        first = self._first
        return {
            "anchor": first["anchor"],
            "omega": first["sent"],
            "sent": first["sent"],
            "news": (),
            "history": (),
            "round": torch.tensor(0, device="cpu"),
            "digest": first["digest"],
        }

    def enroll(self, x: Received, ctx: Ctx) -> Copy:
        """The copy as it was before the first message, not communicated."""
        return self._first

    def decode(self, x: Received, memory: Copy, shard: Shard, ctx: Ctx) -> tuple[Decoded, Copy]:
        """Replays what was missed, checks the copy against the server's digest, and lifts it."""
        copy = self.caught_up(x, memory, ctx)
        check_digest(copy["digest"], ctx)
        return Decoded(self._model(copy["anchor"], copy["sent"], self.space.calendar.epoch(ctx.round))), copy

    def encode(
        self, start: Decoded, y: Params, x: Received, memory: Copy, shard: Shard, ctx: Ctx
    ) -> tuple[dict[str, Tree], Copy, Info]:
        """lower(y - y_0)."""
        dx = self.space.lower(tree.sub(y, start.y), self.space.calendar.epoch(ctx.round))
        return {"omega": dx}, memory, {}

    def caught_up(self, x: Received, memory: Copy, ctx: Ctx) -> Copy:
        """A client's copy after what it is sent: the messages that it missed, or everything.

        Raises:
            FedSepError: It is sent something else.
        """
        strange = sorted(x.keys() - {"missed", "anchor", "omega"})
        if strange:  # of another view: what it says would be passed over
            raise FedSepError(f"clients are sent missed messages, or anchor and omega (got {', '.join(strange)})")
        if "missed" not in x:
            first = self._first
            anchor, sent = x.get("anchor", first["anchor"]), x.get("omega", first["sent"])
            return {"anchor": anchor, "sent": sent, "digest": as_digest(ctx.digest or 0)}
        for number, news in enumerate(x["missed"], start=ctx.round - len(x["missed"])):
            memory = self._replayed(memory, news, number)
        return memory

    def advance(self, x: Announced, round: int) -> tuple[Announced, bool]:
        """The news become history, and where a new period begins, x is folded as the messages tell it."""
        copy: Copy = {"anchor": x["anchor"], "sent": x["sent"], "digest": x["digest"]}
        turned = self._turn(copy, x["news"], round - 1)
        begins = self._begins(round)
        advanced: Announced = {
            "anchor": turned["anchor"],
            "omega": turned["sent"] if begins else x["omega"],
            "sent": turned["sent"],
            "news": (),
            "history": self._kept((*x["history"], x["news"])),
            "round": torch.tensor(round, device="cpu"),
            "digest": turned["digest"],
        }
        return advanced, begins

    def stored(self) -> int:
        """Bytes of a sketch, where it is a stored matrix."""
        return self.space.stored() if isinstance(self.space, Sketched) else 0

    def sketchless(self) -> Replay:
        """The same messages, about a sketch that needs no factorisation where they are about one, for a check."""
        if not isinstance(self.space, Sketched):
            return self
        return replace(self, space=self.space.sketchless(), _turns=Memo(), _models=Memo())  # these remember S's

    def model(self, x: Announced) -> Params:
        """The model that every client decodes."""
        return self._model(x["anchor"], x["sent"], self.space.calendar.epoch(int(x["round"])))

    def digest(self, x: Announced) -> int:
        """What every client's copy must agree with."""
        return int(x["digest"])

    @functools.cached_property
    def _first(self) -> Copy:
        """Everybody's first copy: one object, so that what is the same need not be compared."""
        return {"anchor": self.space.anchor(), "sent": self.space.origin(), "digest": seal(self.key)}

    def _replayed(self, copy: Copy, news: News, round: int) -> Copy:
        """A client's copy after the message of ``round``; clients that were sent the same share the work."""

        def replay() -> Copy:
            ctx = message_ctx(self.key, round)
            sent = heard(self.wire, copy["sent"], news, ctx)
            return self._turn({**copy, "sent": sent}, news, round)

        return self._turns(replay, round, tree.leaves(news), copy["digest"], copy["sent"], copy["anchor"])

    def _turn(self, copy: Copy, news: News, round: int) -> Copy:
        """The copy at the end of ``round``: folded where the next round begins a period."""
        if not self._begins(round + 1):
            return {**copy, "digest": fold_digest(copy["digest"], news)}
        anchor = self._model(copy["anchor"], copy["sent"], self.space.calendar.epoch(round))
        digest = fold_digest(copy["digest"], news, anchor)
        return {"anchor": anchor, "sent": self.space.origin(), "digest": digest}

    def _begins(self, round: int) -> bool:
        return round > 0 and self.space.calendar.begins(round)

    def _model(self, anchor: Params, x: Tree, epoch: int) -> Params:
        return self._models(lambda: self.space.lift(anchor, x, epoch), epoch, x, anchor)

    def _kept(self, history: tuple[News, ...]) -> tuple[News, ...]:
        """No more than the model takes: beyond that, everything is the smaller download."""
        first = self._first
        room = tree.nbytes([first["anchor"], first["sent"]])
        sizes = [tree.nbytes(news) for news in history]
        drop, total = 0, sum(sizes)
        while total > room:
            total -= sizes[drop]
            drop += 1
        return history[drop:]
