"""Parts that do not fit one another, found before a run: one round without learning, and what both ends must share."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from fedsep import random, tree
from fedsep.core import Ctx, FedSepError, Params, Tree, Update
from fedsep.fedsep import FedSep
from fedsep.servers.reduce import coverage_mean
from fedsep.wires.dense import Dense
from fedsep.wires.promises import Contraction, Exact, advice, promise_of

SHARED = ("space", "calendar", "wire", "key", "sketch", "learner", "ranks")
"""What two parts that both have it must have alike: both ends rely on it."""

T = TypeVar("T")


class Finding(NamedTuple):
    """What is wrong with a pair of parts; ``fatal`` if it cannot work, else it is likely not what was meant."""

    text: str
    fatal: bool = True


class _Unfit(Exception):
    """What ends a tiny round early."""


def findings(algorithm: object, params: Params) -> list[Finding]:
    """Every pair of a ``FedSep``'s parts that does not fit; nothing for methods that are not made of parts.

    Args:
        algorithm: The method.
        params: The model's initial parameters.
    """
    if not isinstance(algorithm, FedSep):
        return []
    algorithm = brief(algorithm)
    found = list(_disagreements(algorithm))
    if found:  # a round would only say the same in other words
        return found
    try:
        return [*_downlink(algorithm, params), *_round(algorithm, params)]
    except _Unfit as error:
        return [Finding(str(error))]


def brief(algorithm: T) -> T:
    """The method with a server whose step is as short as it can be, where it says how: distillation takes one step."""
    shorter = getattr(algorithm.server, "brief", None) if isinstance(algorithm, FedSep) else None
    return algorithm if shorter is None else dataclasses.replace(algorithm, server=shorter())  # type: ignore[type-var]


def _disagreements(algorithm: FedSep) -> Iterator[Finding]:
    """Pairs in which each has its own idea of what they share."""
    learner = {"learner": algorithm.learner}
    parts = [("learner", learner), ("codec", _fields(algorithm.codec)), ("view", _fields(algorithm.view))]
    parts += [("server", _fields(server)) for server in _nested(algorithm.server, "server")]
    parts += [("uplink", {n: v for n, v in _fields(wire).items() if n == "sketch"})
              for wire in _nested(algorithm.uplink, "wire")]  # fmt: skip
    for number, (first, own) in enumerate(parts):
        for second, other in parts[number + 1 :]:
            for name in SHARED:
                if first != second and name in own and name in other and not _alike(own[name], other[name]):
                    pair = f"{first} {_name(algorithm, first)} and {second} {_name(algorithm, second)}"
                    yield Finding(f"{pair} do not fit: each has a {name} of its own, and must have the other's")


def _downlink(algorithm: FedSep, params: Params) -> Iterator[Finding]:
    """A wire on what is sent down as it is, in every round: nobody feeds its error back."""
    wire, x = algorithm.downlink, algorithm.codec.init(params)
    sent = algorithm.view.cut(x, _ctx(0))
    name = f"downlink {type(wire).__name__}"
    cure = "fedsep.downlinks.replayed sends changes by any wire and keeps its error on the server"
    if isinstance(wire, Dense) or not tree.leaves(sent):
        return
    memory = _try(f"{name} does not fit view {_name(algorithm, 'view')}", lambda: wire.init(sent))
    if memory not in ((), None):
        yield Finding(f"{name} remembers, and broadcast has no memory: {cure}")
        return
    packed = _try(f"{name} does not fit view {_name(algorithm, 'view')}", lambda: wire.pack(sent, (), _ctx(0))[0])
    try:
        wire.unpack(packed, None, _ctx(0))
    except FedSepError:
        yield Finding(f"{name} cannot be read by clients, which do not know the shapes of x: {cure}")
        return
    promise = promise_of(wire, tree.size(sent))
    if not isinstance(promise, Exact) and not (isinstance(promise, Contraction) and promise.delta >= 0.5):
        yield Finding(f"{name} is given x itself in every round, and its error does not shrink with training: {cure}",
                      fatal=False)  # fmt: skip


def _round(algorithm: FedSep, params: Params) -> Iterator[Finding]:
    """A change goes up and moves the server."""
    codec, view, uplink, server = (_name(algorithm, part) for part in ("codec", "view", "uplink", "server"))
    ctx, x = _ctx(0), algorithm.codec.init(params)
    like = _try(f"view {view} does not fit codec {codec}", lambda: algorithm.view.like(x, ctx))
    up = f"uplink {uplink} does not fit what codec {codec} encodes"
    payload, _ = _try(up, lambda: algorithm.uplink.pack(_noise(like), algorithm.uplink.init(like), ctx))
    read = _try(up, lambda: algorithm.uplink.unpack(payload, like, ctx))
    value, cover = _try(f"view {view} does not fit uplink {uplink}", lambda: algorithm.view.paste(read, x, ctx))
    takes = f"server {server} does not fit uplink {uplink} and view {view}"
    start = _try(f"server {server} does not fit codec {codec}", lambda: algorithm.server.init(x))
    moved, _ = _try(takes, lambda: algorithm.server.step(x, iter([Update(value, 1.0, cover)]), start))
    if _shape(moved) != _shape(x):
        raise _Unfit(f"{takes}: x has other names or shapes after its step")
    size = tree.size(like)
    yield from (Finding(f"uplink {text}", fatal=False) for text in advice(algorithm.uplink, size))
    reduces = [getattr(each, "reduce", None) for each in _nested(algorithm.server, "server")]
    if coverage_mean not in reduces or cover is not None:
        return
    weak = _ctx(0, 0.5)
    narrow = _try(f"view {view} does not fit codec {codec}", lambda: algorithm.view.like(x, weak))
    half = _try(f"view {view} does not fit uplink {uplink}", lambda: algorithm.view.paste(_noise(narrow), x, weak)[1])
    if half is None:
        yield Finding(f"server {server} divides by who covers what, and with view {view} everybody covers everything: "
                      "coverage_mean is mean here", fatal=False)  # fmt: skip


def _try(pair: str, step: Callable[[], T]) -> T:
    try:
        return step()
    except FedSepError as error:
        raise _Unfit(f"{pair}: {error}") from error
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError, AssertionError) as error:
        raise _Unfit(f"{pair} ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else '-'})") from error


def _ctx(round: int, capability: float = 1.0) -> Ctx:
    return Ctx(round, capability, random.key(round))


def _noise(like: Tree) -> Tree:
    """A change as it might come: no coordinate like another; positions, which are no floats, stay as they are."""

    def draw(part: Tensor) -> Tensor:
        if not part.is_floating_point():
            return part
        return 1e-3 * random.normal(random.key(part.numel()), part.numel()).reshape(part.shape).to(part)

    return tree.map(draw, like)


def _shape(x: Tree) -> object:
    """Names and shapes at the top of x, where the parts of the model and not the server's notes are."""
    if isinstance(x, dict):
        return {name: _shape(part) for name, part in sorted(x.items()) if name not in ("news", "history")}
    return x.shape if isinstance(x, Tensor) else None


def _nested(part: object, name: str) -> Iterator[object]:
    """A part and those that it wraps."""
    while part is not None:
        yield part
        part = getattr(part, name, None)


def _fields(part: object) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(part)] if dataclasses.is_dataclass(part) else []
    return {name: getattr(part, name) for name in names if name in SHARED}


def _name(algorithm: FedSep, part: str) -> str:
    return type(getattr(algorithm, part)).__name__


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
