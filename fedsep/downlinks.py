"""How the server's model gets to the clients: the four parts of a method that depend on it, together."""

from __future__ import annotations

from typing import Any, TypedDict

from torch import Tensor

from fedsep import random, tree
from fedsep.codecs.followed import Followed, Inside
from fedsep.codecs.identity import Identity
from fedsep.codecs.patched import Patched
from fedsep.codecs.replay import Replay
from fedsep.codecs.spaces import Plain, Space
from fedsep.core import Codec, Params, Server, View, Wire
from fedsep.servers.announce import announcing
from fedsep.servers.optimize import Optimize, Rule
from fedsep.servers.sgd import SGDRule
from fedsep.servers.track import Track
from fedsep.views.changes import Changes
from fedsep.views.missed import Missed
from fedsep.views.whole import Whole
from fedsep.wires.dense import Dense

_MESSAGES = int.from_bytes(b"down", "big")  # what the seed's key is folded with for the messages' draws


class Downlink(TypedDict):
    """Arguments of ``FedSep``."""

    codec: Codec[Any]
    view: View
    server: Server[Any]
    downlink: Wire[Any]


def whole(rule: Rule | None = None, wire: Dense | None = None) -> Downlink:
    """The model in every round, to every client: nothing is remembered, 4 d bytes."""
    optimize = Optimize(rule or SGDRule())
    return {"codec": Identity(), "view": Whole(), "server": optimize, "downlink": wire or Dense()}


def changed(start: Params, rule: Rule | None = None) -> Downlink:
    """The coordinates that changed since the client was last seen, or all of them: 8 bytes a coordinate, 4 d at most.

    Args:
        start: The initial model, which both ends make from the seed.
        rule: Moves the model; with momentum every coordinate soon changes in every round.
    """
    track = Track(Optimize({"model": rule or SGDRule()}))
    return {"codec": Patched(start), "view": Changes(), "server": track, "downlink": Dense()}


def replayed(start: Params, wire: Wire[Any], rule: Rule | None = None, seed: int = 0) -> Downlink:
    """What the server is ahead of the clients' copy, by any wire; the messages a client missed, or all when smaller.

    What a contracting wire leaves out stays on the server and is part of the next message; wires that promise no
    contraction are taken at their word: see ``fedsep.servers.announce.announcing``.

    Args:
        start: The initial model, which both ends make from the seed.
        wire: Sends a change.
        rule: Moves the model.
        seed: Of what the wire draws.

    Raises:
        FedSepError: The wire feeds its error back by itself.
    """
    optimize, key = Optimize({"omega": rule or SGDRule()}), random.fold(random.key(seed), _MESSAGES)
    return announced(Plain(start), wire, optimize, key, tree.size(start))


def announced(space: Space, wire: Wire[Any], server: Server[Any], key: Tensor, size: int) -> Downlink:
    """``replayed`` in any space: the change of x travels, whatever x is.

    Args:
        space: Where x lives.
        wire: Sends a change of x.
        server: Moves x.
        key: Shared by both ends, for wires that draw.
        size: Coordinates of x.

    Raises:
        FedSepError: The wire feeds its error back by itself.
    """
    told = announcing(server, wire, key, size)
    return {"codec": Replay(space, wire, key), "view": Missed(space), "server": told, "downlink": Dense()}


def followed(codec: Codec[Any], server: Server[Any], start: Params, wire: Wire[Any] | None, seed: int = 0) -> Downlink:
    """x as it is by a plain wire (the default); by any other its changes, which clients add to a copy that they keep.

    Args:
        codec: What clients do with x.
        server: Moves x.
        start: The initial model, which both ends make from the seed.
        wire: Sends a change of x, by the rules of ``replayed``; None: x, in float32.
        seed: Of what the wire draws.

    Raises:
        FedSepError: The wire feeds its error back by itself.
    """
    if wire is None or isinstance(wire, Dense):
        return {"codec": codec, "view": Whole(), "server": server, "downlink": wire or Dense()}
    following = Followed(codec, start, wire, random.fold(random.key(seed), _MESSAGES))
    told = announcing(Inside(server), wire, following.key, tree.size(following.space.origin()))
    return {"codec": following, "view": Missed(following.space), "server": told, "downlink": Dense()}


def by_wire(start: Params, wire: Wire[Any] | None, rule: Rule | None = None, seed: int = 0) -> Downlink:
    """``whole`` by a plain wire (the default), ``replayed`` by any other."""
    if wire is None or isinstance(wire, Dense):
        return whole(rule, wire)
    return replayed(start, wire, rule, seed)
