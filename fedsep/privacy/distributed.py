"""Distributed differential privacy: each client clips its change and adds its share of the noise before the wire."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch

from fedsep import tree
from fedsep.core import Ctx, FedSepError, Payload, Server, Tree, Update
from fedsep.fedsep import FedSep
from fedsep.privacy.central import counted_once, divided, moved
from fedsep.privacy.guarantee import Delta, Guarantee, require_plain
from fedsep.privacy.noise import clipped, new_secret, normal_like
from fedsep.ranges import Count, NonNegativeInt, Positive, checked
from fedsep.wires.dense import Dense
from fedsep.wires.promises import Lossy


@dataclass(frozen=True)
class NoiseShare:
    """The client's end: its change, clipped and with a share of the noise.

    Attributes:
        clip: Largest norm of a change.
        deviation: Standard deviation of one share, in each coordinate.
        secret: In place of the client's own entropy; None: entropy, drawn anew for every message.
        seed: Goes with ``secret``.
        wire: Sends the sum, every number as it is.
    """

    clip: float
    deviation: float
    secret: int | None = None
    seed: int = 0
    wire: Dense = field(default_factory=Dense)

    def init(self, like: Tree) -> Any:
        """Nothing is remembered."""
        return self.wire.init(like)

    def pack(self, tree_: Tree, memory: Any, ctx: Ctx) -> tuple[Payload, Any]:
        """clip(dx) + share."""
        # The key is public: it only tells one message from another where a secret was given for all of them.
        noise = normal_like(new_secret(self.secret, self.seed), "share", int(ctx.key), tree_)
        noisy = tree.add(clipped(tree_, self.clip), noise, self.deviation)
        return self.wire.pack(divided(noisy, 1, tree_), memory, ctx)

    def unpack(self, payload: Payload, like: Tree, ctx: Ctx) -> Tree:
        """As it was sent."""
        return self.wire.unpack(payload, like, ctx)

    def promise(self, size: int) -> Lossy:
        """What is read is mostly noise."""
        return Lossy()


@dataclass(frozen=True)
class FixedMean:
    """The server's end: the sum, divided by a number that does not depend on who replied."""

    server: Server[Any]
    privacy: Guarantee

    def init(self, x: Tree) -> Tree:
        """The server's own state."""
        return self.server.init(x)

    def step(self, x: Tree, updates: Iterable[Update], state: Tree) -> tuple[Tree, Tree]:
        """x moved by the sum over ``replies``; as it was without replies."""
        like, total = moved(self.server, x), None
        for update in updates:
            change = tree.map(lambda part: part.to(torch.float64), counted_once(update))
            total = change if total is None else tree.add(total, change)
        mean = [] if total is None else [Update(divided(total, self.privacy.replies, like))]
        return self.server.step(x, iter(mean), state)


@checked
def distributed(
    method: FedSep,
    *,
    clip: Positive,
    noise: Positive,
    replies: Count,
    fewest: Count,
    delta: Delta = 1e-5,
    secret: NonNegativeInt | None = None,
    seed: NonNegativeInt = 0,
) -> FedSep:
    r"""The Gaussian mechanism at the clients, around a method: each sends clip(dx_m) + N(0, (noise C)^2 / fewest).

    clip(v) = v min(1, C / |v|) over all of an encoded change, in the coordinates of x. Of ``fewest`` replies or more
    the noise on the sum is N(0, (noise C)^2) or more; with fewer the round must be void (``stop.min_replies``). x moves
    by the sum over ``replies``. When ``fewest`` reply, this is ``privacy.central`` in distribution.

    Who is trusted: every client, to clip and to add its share; and an aggregator that shows the server the sum and
    nothing else, such as secure aggregation, which this library does not have. To a server that sees single
    replies each is private with noise / sqrt(fewest) only. The server invites, so it knows who took part: nothing
    is claimed from sampling, and epsilon is that of the client that was invited most often.

    Args:
        method: A method made of the five parts, with ``weighting: uniform``, a server that averages, and float32 on the
            uplink: what rounds single messages would undo that shares add up.
        clip: C, the largest Euclidean norm of a change.
        noise: Standard deviation of the noise on the sum of ``fewest`` replies, over C.
        replies: The cohort's size.
        fewest: Replies whose shares must do, at most ``stop.min_replies``. A share grows as it shrinks.
        delta: Of (epsilon, delta); well below 1 / clients.
        secret: A number instead of the clients' own entropy, to repeat a run bit for bit. For tests and studies.
        seed: Goes with ``secret``: the run's seed, so that runs of several seeds have noise of their own.

    Bytes:
        Those of ``method``.

    Raises:
        FedSepError: The method weights clients, reduces in a way of its own, or has another uplink; ``fewest`` is more
            than ``replies``.

    Reference:
        Kairouz, Liu, Steinke 2021, arXiv:2102.06387, there with discrete noise and secure aggregation.
    """
    require_plain(method, "distributed")
    if not isinstance(method.uplink, Dense) or method.uplink.dtype not in (None, torch.float32):
        raise FedSepError(
            "distributed: method must send its changes as they are (uplink: {use: fedsep.wires.dense}): shares of "
            f"noise add up to what is promised only where nothing rounds them (got {type(method.uplink).__name__}); "
            "privacy.central takes any uplink"
        )
    if fewest > replies:
        raise FedSepError(f"distributed: fewest must be at most replies, {replies} (got {fewest})")
    promised = Guarantee("distributed", clip, noise, replies, delta, fewest, secret, seed)
    share = NoiseShare(clip, noise * clip / math.sqrt(fewest), secret, seed, method.uplink)
    return dataclasses.replace(method, uplink=share, server=FixedMean(method.server, promised))
