"""Any codec over an x of which every client keeps a copy, so that the server may send changes of x by any wire."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypedDict

from torch import Tensor

from fedsep.calendar import Calendar
from fedsep.codecs.replay import Copy, Received, Replay
from fedsep.codecs.start import require_start
from fedsep.core import Codec, Ctx, Decoded, Info, Params, Server, Shard, Tree, Update, Wire
from fedsep.digest import check_digest
from fedsep.servers.announce import Announced


@dataclass(frozen=True)
class Held:
    """The space of an x that is no model: it is kept as it is, around no anchor and for ever.

    Attributes:
        start: x_1, which both ends make from the seed.
    """

    start: Tree
    calendar: Calendar = Calendar(None)

    def anchor(self) -> Params:
        """None."""
        return {}

    def origin(self) -> Tree:
        """x_1."""
        return self.start

    def lift(self, anchor: Params, x: Tree, epoch: int) -> Any:
        """x."""
        return x

    def lower(self, dy: Tree, epoch: int) -> Tree:
        """The change."""
        return dy


class Memory(TypedDict):
    """A client's: its copy of x, and what the codec remembers."""

    copy: Copy
    codec: Tree


@dataclass(frozen=True)
class Followed:
    """y = decode(x') and dx = encode(dy) by ``codec``, at the copy x' that the server's messages tell of.

    Attributes:
        codec: What is done with x.
        first: The initial model, which both ends make from the seed.
        wire: The downlink's.
        key: Of the downlink's messages, shared by both ends.

    Bytes:
        Up: those of the uplink's wire on x. Down: see ``fedsep.views.missed``.
    """

    codec: Codec[Any]
    first: Params
    wire: Wire[Any]
    key: Tensor

    def init(self, params: Params) -> Announced:
        """x_1, and no messages yet.

        Raises:
            FedSepError: The parameters are not those that the clients will start from.
        """
        require_start(params, self.first)
        return self._replay.started()

    def enroll(self, x: Received, ctx: Ctx) -> Memory:
        """The copy as it was before the first message, and the codec's memory of a client that starts now."""
        first = self._replay.enroll(x, ctx)
        now = self._replay.caught_up(x, first, ctx)["sent"]
        return {"copy": first, "codec": self.codec.enroll(now, ctx)}

    def decode(self, x: Received, memory: Memory, shard: Shard, ctx: Ctx) -> tuple[Decoded, Memory]:
        """Replays what was missed, checks the copy against the server's digest, and decodes it."""
        copy = self._replay.caught_up(x, memory["copy"], ctx)
        check_digest(copy["digest"], ctx)
        start, remembered = self.codec.decode(copy["sent"], memory["codec"], shard, ctx)
        return start, {"copy": copy, "codec": remembered}

    def encode(
        self, start: Decoded, y: Params, x: Received, memory: Memory, shard: Shard, ctx: Ctx
    ) -> tuple[dict[str, Tree], Memory, Info]:
        """The codec's, at the copy."""
        sent = memory["copy"]["sent"]
        dx, remembered, info = self.codec.encode(start, y, sent, memory["codec"], shard, ctx)
        return {"omega": dx}, {**memory, "codec": remembered}, info

    def advance(self, x: Announced, round: int) -> tuple[Announced, bool]:
        """The news become history."""
        return self._replay.advance(x, round)

    def model(self, x: Announced) -> Params:
        """The model of the x that clients have been told."""
        return self.codec.model(x["sent"])

    def digest(self, x: Announced) -> int:
        """What every client's copy must agree with."""
        return self._replay.digest(x)

    def unfit(self, server: object) -> str | None:
        """The codec's own say about the server that moves x, which must then not go on from what a wire left of it."""
        unfit = getattr(self.codec, "unfit", None)
        if unfit is None:
            return None
        if not getattr(server, "feedback", True):
            return "the errors of a downlink that promises no contraction would stay in x: choose one that contracts"
        return unfit(getattr(getattr(server, "server", None), "server", None))

    def stored(self) -> int:
        """Bytes of a sketch, where it is a stored matrix."""
        stored = getattr(self.codec, "stored", None)
        return 0 if stored is None else stored()

    def sketchless(self) -> Followed:
        """The same messages, about a sketch that needs no factorisation where they are about one, for a check."""
        made = getattr(self.codec, "sketchless", None)
        return self if made is None else replace(self, codec=made())

    @cached_property
    def space(self) -> Held:
        """Where x starts."""
        return Held(self.codec.init(self.first))

    @cached_property
    def _replay(self) -> Replay:
        return Replay(self.space, self.wire, self.key)


@dataclass(frozen=True)
class Inside:
    """A server for x where x is one part of what the server keeps: ``omega``.

    Attributes:
        server: Moves x.
    """

    server: Server[Any]

    @property
    def clients(self) -> int | None:
        """How many there are, where the server was told."""
        return getattr(self.server, "clients", None)

    def init(self, x: Announced) -> Tree:
        """The server's state."""
        return self.server.init(x["omega"])

    def step(self, x: Announced, updates: Iterable[Update], state: Tree) -> tuple[Announced, Tree]:
        """omega moves; everything as it was if nobody replied."""
        inner = (update._replace(value=update.value["omega"], cover=None) for update in updates)
        moved, state = self.server.step(x["omega"], inner, state)
        return (x if moved is x["omega"] else {**x, "omega": moved}), state
