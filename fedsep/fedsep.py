"""Algorithm 1 of the paper: decode, learn, encode, aggregate, over five exchangeable parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from fedsep import tree
from fedsep.codecs.identity import Identity
from fedsep.core import (
    Codec,
    Ctx,
    Decoded,
    Expected,
    Info,
    Learner,
    Params,
    Payload,
    Reply,
    Server,
    Shard,
    Task,
    Tree,
    Update,
    View,
    Wire,
    stage,
)
from fedsep.servers.optimize import Optimize
from fedsep.views.whole import Whole
from fedsep.wires.dense import Dense
from fedsep.wires.promises import varies

Weighting = Literal["uniform", "samples"]


class ServerState(NamedTuple):
    """What the server keeps: x, its optimiser's state, and the number of the round to come."""

    x: Tree
    optimizer: Tree
    round: int


class ClientState(NamedTuple):
    """What a client remembers between its rounds."""

    codec: Tree
    wire: Tree


class Begun(NamedTuple):
    """A client's round up to its local steps: what it was sent, where learning starts, and the codec's memory."""

    x: Tree
    start: Decoded
    memory: Tree


@dataclass(frozen=True)
class FedSep:
    """Algorithm 1 (Separating Communication and Learning in FL), in the convention of one sign.

    ``encode`` is +J^T dy and the server adds: the paper's two minus signs (Eq. 2 and line 20) cancel to
    this, and FedAvg becomes literally the identity on all five parts.

    Attributes:
        learner: How a client learns (lines 12-16).
        codec: How x becomes y and back (lines 5-11 and 17-18).
        view: Which part of x a client is sent (line 6).
        uplink: How the encoded change becomes bytes.
        downlink: How what a client is sent becomes bytes.
        server: How the changes move x (line 20).
        weighting: ``"uniform"`` as in line 20, or ``"samples"`` as in FedAvg.
        task: The local problem that the method solves in place of the one it is run on: that of a narrower model.
    """

    learner: Learner
    codec: Codec[Any] = field(default_factory=Identity)
    view: View = field(default_factory=Whole)
    uplink: Wire[Any] = field(default_factory=Dense)
    downlink: Wire[Any] = field(default_factory=Dense)
    server: Server[Any] = field(default_factory=Optimize)
    weighting: Weighting = "uniform"
    task: Task | None = None

    def init(self, params: Params) -> ServerState:
        """Line 1: x_1."""
        x = self.codec.init(params)
        return ServerState(x, self.server.init(x), 0)

    def broadcast(self, state: ServerState, ctx: Ctx) -> Payload:
        """Line 6, the server's side."""
        return self.downlink.pack(self.view.cut(state.x, ctx), (), ctx)[0]

    def enroll(self, payload: Payload, ctx: Ctx) -> ClientState:
        """A client's memory before its first accepted round; the wire's starts with its first message."""
        return ClientState(self.codec.enroll(self.downlink.unpack(payload, None, ctx), ctx), ())

    def update(
        self, payload: Payload, client: ClientState, shard: Shard, ctx: Ctx
    ) -> tuple[Payload, ClientState, Info]:
        """Lines 5-18: a client's round."""
        begun = self.begin(payload, client, shard, ctx)
        with stage("learn"):  # lines 12-16
            learned = self.learner.learn(begun.start, shard, ctx)
        return self.finish(begun, learned, client, shard, ctx)

    def begin(self, payload: Payload, client: ClientState, shard: Shard, ctx: Ctx) -> Begun:
        """Lines 5-11: what comes before the local steps."""
        with stage("decode"):
            x = self.downlink.unpack(payload, None, ctx)
            return Begun(x, *self.codec.decode(x, client.codec, shard, ctx))

    def finish(
        self, begun: Begun, learned: tuple[Params, Info], client: ClientState, shard: Shard, ctx: Ctx
    ) -> tuple[Payload, ClientState, Info]:
        """Lines 17-18: what comes after them."""
        (x, start, memory), (y, info) = begun, learned
        with stage("encode"):
            dx, memory, encoded = self.codec.encode(start, y, x, memory, shard, ctx)
        with stage("pack"):
            fresh = isinstance(client.wire, tuple) and not client.wire
            reply, wire = self.uplink.pack(dx, self.uplink.init(dx) if fresh else client.wire, ctx)
        return reply, ClientState(memory, wire), {**info, **encoded}

    def aggregate(self, state: ServerState, replies: Iterable[Reply]) -> tuple[ServerState, Info]:
        """Line 20, over replies as they come; without replies only the clock moves. A server's ``told`` is logged."""
        x, optimizer = self.server.step(state.x, self._updates(state, replies), state.optimizer)
        told = getattr(self.server, "told", None)
        info: Info = {} if told is None else told(x, optimizer)
        x, renewed = self.codec.advance(x, state.round + 1)
        return ServerState(x, self._renewed(x, optimizer) if renewed else optimizer, state.round + 1), info

    def model(self, state: ServerState) -> Params:
        """The server's model."""
        return self.codec.model(state.x)

    def expected(self, state: ServerState, ctx: Ctx) -> Expected:
        """What this client's reply looks like: x itself, cut for the client and packed as a change would be."""
        like = self.view.like(state.x, ctx)
        payload, _ = self.uplink.pack(like, self.uplink.init(like), ctx)
        vectors = varies(self.view)
        longest = tree.nbytes(like) + tree.nbytes(payload) if vectors or varies(self.uplink) else None
        return Expected(payload, longest, vectors)

    def form(self, ctx: Ctx) -> object:
        """What the form of a reply depends on, beside the state and a client's report: clients alike send alike."""
        of = getattr(self.view, "form", None)
        return ctx.capability if of is None else of(ctx)

    def read(self, state: ServerState, reply: Reply) -> Update:
        """A client's change in the server's shape, with its weight."""
        dx = self.uplink.unpack(reply.payload, self.view.like(state.x, reply.ctx), reply.ctx)
        value, cover = self.view.paste(dx, state.x, reply.ctx)
        return Update(value, float(reply.samples) if self.weighting == "samples" else 1.0, cover)

    def narrower(self, state: ServerState, params: Params, width: float) -> Params:
        """The sub-model of a share of the units, by the view's plan as it stands; all of it where there is no plan.

        Args:
            state: What the server keeps.
            params: Of the whole model: the server's, or an average of it.
            width: The share.
        """
        cut = getattr(self.view, "narrower", None)
        return params if cut is None else cut(state.x, params, width, state.round)

    def submodel(self, state: ServerState, params: Params, ctx: Ctx) -> Params:
        """The sub-model that a client holds, by the view's plan and its last report; all of it where there is no plan.

        Args:
            state: What the server keeps.
            params: Of the whole model, or tensors of the same shapes.
            ctx: The client's.
        """
        cut = getattr(self.view, "submodel", None)
        return params if cut is None else cut(state.x, params, ctx)

    @property
    def densities(self) -> tuple[float, ...]:
        """Shares of the weights at which the server's model may be served, the largest first; empty: it has one."""
        return getattr(self.codec, "densities", ())

    def sparser(self, params: Params, density: float) -> Params:
        """The model with a share of its weights, where the codec has ``densities``.

        Args:
            params: Of the server's model, or of an average of it.
            density: The share.
        """
        return params if density == max(self.densities) else self.codec.sparser(params, density)  # type: ignore[attr-defined]

    @property
    def privacy(self) -> Any:
        """What the server or the learner promises (``fedsep.privacy.Guarantee``); None where neither does."""
        return getattr(self.server, "privacy", None) or getattr(self.learner, "privacy", None)

    def cohort_seed(self, state: ServerState) -> int | None:
        """Of who takes part in the round to come, where that must not follow from the run's seed."""
        draw = getattr(self.server, "cohort_seed", None)
        return None if draw is None else draw(state.optimizer)

    @property
    def clients(self) -> int | None:
        """How many clients there are, where the server's step was told."""
        return getattr(self.server, "clients", None)

    def digest(self, state: ServerState) -> int | None:
        """What a client's memory must agree with, where the codec keeps a digest of it."""
        digest = getattr(self.codec, "digest", None)
        return None if digest is None else digest(state.x)

    def local_models(self, payload: Payload, client: ClientState, shard: Shard, ctx: Ctx) -> tuple[Params, Params]:
        """The client's own model before and after its local steps: y_0 and y_I."""
        x = self.downlink.unpack(payload, None, ctx)
        start, _ = self.codec.decode(x, client.codec, shard, ctx)
        return start.y, self.learner.learn(start, shard, ctx)[0]

    def _renewed(self, x: Tree, optimizer: Tree) -> Tree:
        """The server's state when x means something new: a server may have something to keep."""
        renew = getattr(self.server, "renew", None)
        return self.server.init(x) if renew is None else renew(x, optimizer)

    def _updates(self, state: ServerState, replies: Iterable[Reply]) -> Iterator[Update]:
        for reply in replies:
            yield self.read(state, reply) if reply.change is None else reply.change
