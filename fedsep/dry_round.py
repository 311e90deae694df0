"""Rounds in which nobody learns: whether what the parts of a method hand to one another fits, before anything runs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from fedsep import random, tree
from fedsep.core import Ctx, FedSepError, Params, Reply, Shard, Tree, Update
from fedsep.digest import sealed
from fedsep.fedsep import FedSep, ServerState

ROUNDS = 2  # in the first one there may be nothing to send, and in the second there is

_EXAMPLES = 8  # that a client is said to have
_ALIKE = 4  # clients of one capability, whose replies are compared

T = TypeVar("T")


class Unfit(Exception):
    """What ends a round early: its text says which parts do not fit, and why."""


class _DataAsked(Exception):
    """A part looks at a client's data, and there are none here."""


class _Unseen:
    """Examples that can be counted and have a class; whoever asks for more cannot be played any further."""

    size = _EXAMPLES

    @property
    def y(self) -> Tensor:
        """Made when it is asked for, on the default device of then."""
        return torch.zeros(_EXAMPLES, dtype=torch.int64)

    def __getattr__(self, name: str) -> Any:
        raise _DataAsked(name)


def attempt(pair: str, step: Callable[[], T]) -> T:
    """What ``step`` gives.

    Raises:
        Unfit: ``step`` failed; the text starts with ``pair``.
    """
    try:
        return step()
    except FedSepError as error:
        raise Unfit(f"{pair}: {error}") from error
    except _DataAsked:
        raise
    except Exception as error:  # whatever goes wrong here would go wrong in a client
        raise Unfit(f"{pair} ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else '-'})") from error


def named(algorithm: FedSep, part: str) -> str:
    """A part's name in a sentence: ``codec Identity``."""
    return f"{part} {type(getattr(algorithm, part)).__name__}"


def at(round: int, capability: float = 1.0) -> Ctx:
    """A client's context in a round, after all rounds before were accepted."""
    return Ctx(round, capability, random.key(round), round - 1)


def change_through(algorithm: FedSep, params: Params) -> tuple[Tree, Tree, Tree | None]:
    """A made-up change goes up and moves the server, by the server's parts alone.

    Returns:
        The server's x before; a change as the view says it looks; the change's cover.

    Raises:
        Unfit: Two parts do not fit.
    """
    codec, view, uplink, server = (named(algorithm, part) for part in ("codec", "view", "uplink", "server"))
    ctx, x = at(0), algorithm.codec.init(params)
    like = attempt(f"{view} does not fit {codec}", lambda: algorithm.view.like(x, ctx))
    _require_alike(algorithm, x)
    up = f"{uplink} does not fit what {codec} encodes"
    payload, _ = attempt(up, lambda: algorithm.uplink.pack(noise(like), algorithm.uplink.init(like), ctx))
    read = attempt(up, lambda: algorithm.uplink.unpack(payload, like, ctx))
    value, cover = attempt(f"{view} does not fit {uplink}", lambda: algorithm.view.paste(read, x, ctx))
    takes = f"{server} does not fit {uplink} and {view}"
    start = attempt(f"{server} does not fit {codec}", lambda: algorithm.server.init(x))
    moved, _ = attempt(takes, lambda: algorithm.server.step(x, iter([Update(value, 1.0, cover)]), start))
    if shape(moved) != shape(x):
        raise Unfit(f"{takes}: x has other names or shapes after its step")
    if isinstance(x, dict) and "news" in x and not moved["news"]:
        raise Unfit(f"{server} does not fit {codec}: clients follow the server's messages, and it sends none; "
                    "fedsep.servers.Announce does")  # fmt: skip
    return x, like, cover


def _require_alike(algorithm: FedSep, x: Tree) -> None:
    """Clients of whom the method says that they send alike change parts of the same names and shapes."""
    forms: dict[object, Tree] = {}
    for number in range(_ALIKE):
        ctx = at(0, 0.5)._replace(key=random.key(number))
        try:
            found = shape(algorithm.view.like(x, ctx))
        except Exception:  # a half is no sub-model of this view, and nobody may ask for one
            return
        view = named(algorithm, "view")
        form = attempt(f"{view}.form", functools.partial(algorithm.form, ctx))
        _require_plain(form, view)
        if forms.setdefault(form, found) != found:
            raise Unfit(
                f"{view}: clients of one capability change parts of other names or shapes, and its "
                "method form(ctx) does not say on what these depend: the server would refuse their replies"
            )


def _require_plain(form: object, view: str) -> None:
    """A form must be the same whenever it is asked for: a tensor equals no other, and a list cannot be looked up."""
    if isinstance(form, tuple):
        for part in cast(tuple[object, ...], form):
            _require_plain(part, view)
    elif not isinstance(form, str | int | float | None):
        raise Unfit(f"{view}: form(ctx) must be a number, a text or a tuple of such (got {type(form).__name__})")


def client_through(algorithm: FedSep, params: Params) -> None:
    """A client plays some rounds in which its model changes by itself; it ends where a part looks at its data.

    Raises:
        Unfit: Two parts do not fit.
    """
    state = attempt(f"{named(algorithm, 'codec')} does not fit {named(algorithm, 'server')}",
                    lambda: algorithm.init(params))  # fmt: skip
    memory: Any = None
    try:
        for number in range(ROUNDS):
            state, memory = _round(algorithm, params, state, memory, at(number))
    except _DataAsked:
        return


def _round(
    algorithm: FedSep, params: Params, state: ServerState, memory: Any, unsealed: Ctx
) -> tuple[ServerState, Any]:
    codec, view, uplink, server = (named(algorithm, part) for part in ("codec", "view", "uplink", "server"))
    shard, clients = Shard(*[_Unseen()] * 3), f"{view} does not fit {codec}, by which clients read what they are sent"  # type: ignore[arg-type]
    ctx = attempt(f"{server} does not fit {codec}", lambda: sealed(algorithm, state, unsealed))
    down = f"{named(algorithm, 'downlink')} does not fit {view}"
    sent = attempt(down, lambda: algorithm.broadcast(state, ctx))
    attempt(down, lambda: tree.nbytes(sent))
    known = attempt(clients, lambda: algorithm.enroll(sent, ctx)) if memory is None else memory
    begun = attempt(clients, lambda: algorithm.begin(sent, known, shard, ctx))
    parts: dict[str, Any] = dict(begun.start.y)  # in fact, as some other codec's y, it may be anything
    if not all(isinstance(part, Tensor) for part in parts.values()):
        raise Unfit(f"{clients}: what it decodes is not the parameters of one model")
    y = begun.start.project(attempt(clients, lambda: tree.add(begun.start.y, noise(begun.start.y))))
    reply, after, _ = attempt(f"{uplink} does not fit what {codec} encodes",
                              lambda: algorithm.finish(begun, (y, {}), known, shard, ctx))  # fmt: skip
    back = f"{view} does not fit {codec}, by which clients reply"
    answer = Reply(0, ctx, reply, _EXAMPLES)
    change = attempt(back, lambda: algorithm.read(state, answer))
    moves = f"{server} does not fit {codec}"
    state, _ = attempt(moves, lambda: algorithm.aggregate(state, iter([answer._replace(change=change)])))
    if shape(attempt(moves, lambda: algorithm.model(state))) != shape(params):
        raise Unfit(f"{codec} does not fit {view} and {server}: the model has other names or shapes after a round")
    return state, after


def noise(like: Tree) -> Tree:
    """A change as it might come: no coordinate like another; positions, which are no floats, stay as they are."""

    def draw(part: Tensor) -> Tensor:
        if not part.is_floating_point():
            return part
        return 1e-3 * random.normal(random.key(part.numel()), part.numel()).reshape(part.shape).to(part)

    return tree.map(draw, like)


def shape(x: Tree) -> object:
    """Names and shapes at the top of x, where the parts of the model and not the server's notes are."""
    if isinstance(x, dict):
        return {name: shape(part) for name, part in sorted(x.items()) if name not in ("news", "history")}
    return x.shape if isinstance(x, Tensor) else None
