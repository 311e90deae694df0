"""Parts that do not fit one another, found before a run: one round without learning, and what both ends must share."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from fedsep import tree
from fedsep.codecs.identity import Identity
from fedsep.core import Params, Tree
from fedsep.dry_round import Unfit, at, attempt, change_through, client_through, named, noise, shape
from fedsep.fedsep import FedSep
from fedsep.servers.announce import Announce, announcing
from fedsep.servers.reduce import coverage_mean
from fedsep.servers.sgd import SGDRule
from fedsep.views.whole import Whole
from fedsep.wires.by_name import ByName
from fedsep.wires.clip import Clip
from fedsep.wires.dense import Dense
from fedsep.wires.momentum_correction import MomentumCorrection
from fedsep.wires.promises import Contraction, Exact, advice, promise_of, unwise, within
from fedsep.wires.staged import Staged

SHARED = ("space", "calendar", "wire", "key", "sketch", "learner", "ranks")
"""What two parts that both have it must have alike: both ends rely on it."""

T = TypeVar("T")


class Finding(NamedTuple):
    """What is wrong with a pair of parts; ``fatal`` if it cannot work, else it is likely not what was meant."""

    text: str
    fatal: bool = True


def findings(algorithm: object, params: Params) -> list[Finding]:
    """Every pair of a ``FedSep``'s parts that does not fit; nothing for methods that are not made of parts.

    Args:
        algorithm: The method.
        params: The model's initial parameters.
    """
    if not isinstance(algorithm, FedSep):
        return []
    found = list(_disagreements(algorithm))
    if found:  # a round would only say the same in other words
        return found
    algorithm = sketchless(brief(algorithm))
    try:
        found = [*_lengths(algorithm), *_downlink(algorithm, params), *_announced(algorithm, params)]
        return found if any(each.fatal for each in found) else [*found, *_round(algorithm, params)]
    except Unfit as error:
        return [Finding(str(error))]


def brief(algorithm: T) -> T:
    """The method with a server and a codec that take as few steps as they can, where they say how, as distillation."""
    if not isinstance(algorithm, FedSep):
        return algorithm
    parts: dict[str, Any] = {"server": algorithm.server, "codec": algorithm.codec}
    shorter = {name: part.brief() for name, part in parts.items() if hasattr(part, "brief")}
    return dataclasses.replace(algorithm, **shorter) if shorter else algorithm


def sketchless(algorithm: T) -> T:
    """The method without the work that a sketch takes, where its codec says how: a matrix may have to be factorised."""
    made = getattr(getattr(algorithm, "codec", None), "sketchless", None)
    return algorithm if made is None else dataclasses.replace(algorithm, codec=made())  # type: ignore[type-var]


def _disagreements(algorithm: FedSep) -> Iterator[Finding]:
    """Pairs in which each has its own idea of what they share."""
    learner = {"learner": algorithm.learner}
    parts = [("learner", learner), ("codec", _fields(algorithm.codec)), ("view", _fields(algorithm.view))]
    parts += [("codec", {n: v for n, v in _fields(codec).items() if n == "learner"})
              for codec in _nested(getattr(algorithm.codec, "codec", None), "codec")]  # fmt: skip
    parts += [("server", _fields(server)) for server in _nested(algorithm.server, "server")]
    parts += [("uplink", {n: v for n, v in _fields(wire).items() if n == "sketch"})
              for wire in within(algorithm.uplink)]  # fmt: skip
    unfit = getattr(algorithm.codec, "unfit", None)
    why = None if unfit is None else unfit(algorithm.server)
    if why is not None:
        yield Finding(f"{named(algorithm, 'server')} does not fit {named(algorithm, 'codec')}: {why}")
    for number, (first, own) in enumerate(parts):
        for second, other in parts[number + 1 :]:
            for name in SHARED:
                if first != second and name in own and name in other and not _alike(own[name], other[name]):
                    pair = f"{named(algorithm, first)} and {named(algorithm, second)}"
                    yield Finding(f"{pair} do not fit: each has a {name} of its own, and must have the other's")


def _lengths(algorithm: FedSep) -> Iterator[Finding]:
    """A wire that reads a message by shapes, under a view of which clients choose how long vectors are."""
    chosen = [part for part in within(algorithm.view) if hasattr(part, "paste") and getattr(part, "varies", False)]
    wires = [wire for wire in within(algorithm.uplink) if hasattr(wire, "unpack")]
    rigid = [type(wire).__name__ for wire in wires if not isinstance(wire, Dense | ByName | Clip | Staged)]
    if chosen and rigid:
        yield Finding(
            f"uplink {rigid[0]} does not fit view {type(chosen[0]).__name__}: clients choose how many weights of each "
            "layer they send, and the wire reads a message by the shapes that are expected; fedsep.wires.dense fits"
        )


def _downlink(algorithm: FedSep, params: Params) -> Iterator[Finding]:
    """A wire on what is sent down as it is, in every round: nobody feeds its error back."""
    wire, x, view = algorithm.downlink, algorithm.codec.init(params), named(algorithm, "view")
    sent = attempt(f"{view} does not fit {named(algorithm, 'codec')}", lambda: algorithm.view.cut(x, at(0)))
    name = named(algorithm, "downlink")
    cure = _cure(algorithm)
    if isinstance(wire, Dense) or not tree.leaves(sent):
        return
    memory = attempt(f"{name} does not fit {view}", lambda: wire.init(sent))
    if memory not in ((), None):
        yield Finding(f"{name} remembers, and broadcast has no memory: {cure}")
        return
    packed = attempt(f"{name} does not fit {view}", lambda: wire.pack(sent, (), at(0))[0])
    try:
        read = attempt(name, lambda: wire.unpack(packed, None, at(0)))
    except Unfit:
        read = None
    if read is None or shape(read) != shape(sent):
        yield Finding(f"{name} cannot be read by clients, which do not know the shapes of x: {cure}")
        return
    promise = promise_of(wire, tree.size(sent))
    if not isinstance(promise, Exact) and not (isinstance(promise, Contraction) and promise.delta >= 0.5):
        yield Finding(f"{name} is given x itself in every round, and its error does not shrink with training: {cure}",
                      fatal=False)  # fmt: skip


def _cure(algorithm: FedSep) -> str:
    """What to do instead, which depends on whether clients keep a copy of x to which changes can be added."""
    codec = named(algorithm, "codec")
    if type(algorithm.codec) is Identity:
        return "fedsep.downlinks.replayed sends changes by any wire and keeps its error on the server"
    if hasattr(algorithm.codec, "digest"):
        return f"{codec} keeps a copy that is the server's bit for bit, so what it is sent must arrive as it is"
    if type(algorithm.view) is Whole:
        return "fedsep.downlinks.followed sends changes of x by any wire and keeps their error on the server"
    return (
        f"{codec} takes x as it is sent, in every round, and keeps no copy of it to which changes could be added: "
        "only a plain wire fits, fedsep.wires.dense in float32, float16 or bfloat16"
    )


def _announced(algorithm: FedSep, params: Params) -> Iterator[Finding]:
    """A server that keeps what its messages leave out, with a wire whose error fed back grows without bound."""
    server = algorithm.server
    if not isinstance(server, Announce):
        return
    x = algorithm.codec.init(params)
    size = attempt(f"server Announce does not fit {named(algorithm, 'codec')}", lambda: tree.size(x["omega"]))
    wire = type(server.wire).__name__
    ruled = attempt(f"server Announce does not fit its wire {wire}",
                    lambda: announcing(server.server, server.wire, server.key, size))  # fmt: skip
    if server.feedback and not ruled.feedback:
        yield Finding(f"server Announce feeds back what {wire} leaves out, and {wire} promises no contraction: the "
                      "error can grow without bound; choose feedback=False")  # fmt: skip
    yield from (Finding(f"downlink {text}", fatal=False) for text in unwise(server.wire, size))


def _round(algorithm: FedSep, params: Params) -> Iterator[Finding]:
    """A change goes up and moves the server; a client plays along."""
    x, like, cover = change_through(algorithm, params)
    client_through(algorithm, params)
    size = tree.size(like)
    yield from (Finding(f"uplink {text}", fatal=False) for text in advice(algorithm.uplink, size))
    yield from _outlived(algorithm, like)
    yield from _momenta(algorithm)
    reduces = [getattr(each, "reduce", None) for each in _nested(algorithm.server, "server")]
    if coverage_mean in reduces and cover is None:
        yield from _covered(algorithm, x)


def _outlived(algorithm: FedSep, like: Tree) -> Iterator[Finding]:
    """An uplink that remembers coordinates which a re-drawn sketch gives another meaning, and does not forget them."""
    codec, uplink = algorithm.codec, algorithm.uplink
    calendar = getattr(codec, "calendar", None) or getattr(getattr(codec, "space", None), "calendar", None)
    period = getattr(calendar, "period", None)
    forgets = any(getattr(wire, "renewed", None) for wire in within(uplink))
    if period is not None and not forgets and tree.leaves(uplink.init(like)):
        yield Finding(
            f"{named(algorithm, 'uplink')} remembers coordinates that mean something else with every sketch, re-drawn "
            f"every {period} rounds: error_feedback, outermost on fedsep_linear or fedsep_quantised, forgets them; "
            "elsewhere give it renewed=calendar.renewed, or set period: never",
            fatal=False,
        )


def _momenta(algorithm: FedSep) -> Iterator[Finding]:
    """Momentum at a client, over its rounds, and at the server: each is meant to be the only one."""
    client = any(isinstance(wire, MomentumCorrection) and wire.momentum for wire in within(algorithm.uplink))
    if client and any(isinstance(part, SGDRule) and part.momentum for part in within(algorithm.server)):
        yield Finding(
            f"{named(algorithm, 'uplink')} has momentum over a client's rounds, and the server's rule has one on top: "
            "they multiply; set one of them to 0",
            fatal=False,
        )


def _covered(algorithm: FedSep, x: Tree) -> Iterator[Finding]:
    """A server that divides by who covers what, where clients of less capability cover everything, too."""
    codec, view, uplink, server = (named(algorithm, part) for part in ("codec", "view", "uplink", "server"))
    weak = at(0, 0.5)
    narrow = attempt(f"{view} does not fit {codec}", lambda: algorithm.view.like(x, weak))
    half = attempt(f"{view} does not fit {uplink}", lambda: algorithm.view.paste(noise(narrow), x, weak)[1])
    if half is None:
        yield Finding(f"{server} divides by who covers what, and with {view} everybody covers everything: "
                      "coverage_mean is mean here", fatal=False)  # fmt: skip


def _nested(part: object, name: str) -> Iterator[object]:
    """A part and those that it wraps."""
    while part is not None:
        yield part
        part = getattr(part, name, None)


def _fields(part: object) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(part)] if dataclasses.is_dataclass(part) else []
    return {name: getattr(part, name) for name in names if name in SHARED}


def _alike(a: Any, b: Any) -> bool:
    """Equal by value, tensors inside included."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_alike(a[name], b[name]) for name in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(_alike(*pair) for pair in zip(a, b, strict=True))
    if isinstance(a, functools.partial):
        return _alike((a.func, a.args, a.keywords), (b.func, b.args, b.keywords))
    if dataclasses.is_dataclass(a):
        names = [field.name for field in dataclasses.fields(a) if field.compare]
        return all(_alike(getattr(a, name), getattr(b, name)) for name in names)
    return a == b
