"""Decode at every few learning steps instead of once a round: what FedSep is set apart from in section 3."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from fedsep import tree
from fedsep.core import Ctx, FedSepError, Info, Params, Payload, Shard, Tree, stage
from fedsep.fedsep import ClientState, FedSep
from fedsep.learners.sgd import SGD
from fedsep.random import fold
from fedsep.ranges import Count, Positive, checked
from fedsep.servers.optimize import Optimize
from fedsep.servers.sgd import SGDRule
from fedsep.views.whole import Whole


@dataclass(frozen=True)
class Stepwise(FedSep):
    """See ``stepwise``."""

    decodes: int = 1
    rate: float = 1.0

    def update(
        self, payload: Payload, client: ClientState, shard: Shard, ctx: Ctx
    ) -> tuple[Payload, ClientState, Info]:
        """Decode, learn and encode, ``decodes`` times; the sum of the encoded changes is sent."""
        with stage("decode"):
            x = self.downlink.unpack(payload, None, ctx)
        memory, total = client.codec, tree.zeros_like(x)
        info: Info = {}
        for part, steps in enumerate(self._parts()):
            x, dx, memory, info = self._part(x, memory, shard, _own(ctx, part), steps)
            total = tree.add(total, dx)
        with stage("pack"):
            fresh = isinstance(client.wire, tuple) and not client.wire
            reply, wire = self.uplink.pack(total, self.uplink.init(total) if fresh else client.wire, ctx)
        return reply, ClientState(memory, wire), info

    def local_models(self, payload: Payload, client: ClientState, shard: Shard, ctx: Ctx) -> tuple[Params, Params]:
        """The client's own model as first decoded, and after its last step."""
        x, memory = self.downlink.unpack(payload, None, ctx), client.codec
        first, _ = self.codec.decode(x, memory, shard, ctx)
        *parts, last = enumerate(self._parts())
        for part, steps in parts:
            x, _, memory, _ = self._part(x, memory, shard, _own(ctx, part), steps)
        start, _ = self.codec.decode(x, memory, shard, ctx)
        return first.y, self._learner(last[1]).learn(start, shard, _own(ctx, last[0]))[0]

    def _part(self, x: Tree, memory: Tree, shard: Shard, ctx: Ctx, steps: int) -> tuple[Tree, Tree, Tree, Info]:
        with stage("decode"):
            start, memory = self.codec.decode(x, memory, shard, ctx)
        with stage("learn"):
            y, learned = self._learner(steps).learn(start, shard, ctx)
        with stage("encode"):
            dx, memory, encoded = self.codec.encode(start, y, x, memory, shard, ctx)
        return tree.add(x, dx, self.rate), dx, memory, {**learned, **encoded}

    def _parts(self) -> list[int]:
        """Steps after each decode: as even as can be, the longer ones first."""
        assert isinstance(self.learner, SGD)
        steps = self.learner.steps or 0
        return [(steps - part - 1) // self.decodes + 1 for part in range(self.decodes)]

    def _learner(self, steps: int) -> SGD:
        assert isinstance(self.learner, SGD)
        return dataclasses.replace(self.learner, steps=steps)


@checked
def stepwise(*, of: FedSep, decodes: Count, rate: Positive | None = None) -> FedSep:
    r"""A method whose clients decode ``decodes`` times a round, and move x by what they encoded in between.

    x_0 = x;  y_j = decode(x_j), a part of the learning steps, x_{j+1} = x_j + rate encode(dy_j);  sum_j encode(dy_j)
    is sent. With ``decodes=1`` it is the method itself; with as many as there are learning steps it is the bilevel
    algorithm that solves the lower level at every step.

    Args:
        of: The method; its learner must be local SGD by steps.
        decodes: Times that a client decodes in a round, at most its learning steps.
        rate: Of x between two decodes; None: the server's learning rate, so that a lone client's x ends where the
            server's does.

    Bytes:
        up: as of
        down: as of

    Raises:
        FedSepError: The method does not learn by steps, or by fewer than ``decodes``; its clients are not sent x
            itself; or its server's rule has no learning rate to take over.
    """
    if not isinstance(of.learner, SGD) or of.learner.steps is None:
        raise FedSepError("stepwise: of must learn by steps of local SGD, not by epochs or by another learner")
    if decodes > of.learner.steps:
        raise FedSepError(f"stepwise: decodes must be at most steps = {of.learner.steps} (got {decodes})")
    if not isinstance(of.view, Whole):
        raise FedSepError("stepwise: of must send x itself to its clients, who move it: not changes, parts or messages")
    fields = {field.name: getattr(of, field.name) for field in dataclasses.fields(FedSep)}
    return Stepwise(**fields, decodes=decodes, rate=_server_rate(of) if rate is None else rate)


def _server_rate(of: FedSep) -> float:
    rule = of.server.rule if isinstance(of.server, Optimize) else None
    if not isinstance(rule, SGDRule) or rule.momentum:
        raise FedSepError("stepwise: give rate: the server's rule is not averaging at a learning rate")
    return rule.lr


def _own(ctx: Ctx, part: int) -> Ctx:
    """Minibatches of its own for every part; those of the first are the method's."""
    return ctx._replace(key=fold(ctx.key, part + 1)) if part else ctx
