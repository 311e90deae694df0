"""The laws of whole methods: six pure functions between which nothing but tensors passes."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from fedsep import tree
from fedsep.core import Algorithm, Failure, Invitation, Reply, Shard, Task, Tree
from fedsep.pairs import findings
from fedsep.replies import Gate
from fedsep.testing.broken import LawBroken, name_of, named_leaves, require_alike, require_close, require_same
from fedsep.testing.documented import Size, documented_bytes, sizes_of
from fedsep.testing.draws import context
from fedsep.testing.payloads import check_payload, reload, reordered, single_precision_bytes
from fedsep.testing.play import Attendance, Played, everybody, play
from fedsep.testing.purity import copied, pure

PROTOCOL = "an algorithm has the six functions, with the names and the order of fedsep.core.Algorithm"
PAIRS = "the parts of a method fit one another"
MODEL = "model gives the task's parameters: names, shapes and dtypes, all numbers finite"
STATES = "state and memory hold tensors, numbers and text, so that they can be stored"
CROSSES = "only what is in a payload reaches the other end: saved and loaded, it gives the same round"
NAMES = "the order of the names in a payload means nothing"
EMPTY = "without replies only the clock moves"
ORDER = "the order of the replies means nothing"
DROPPED = "a client whose reply was dropped is as one that never took part"
EXPECTED = "every reply has the form that `expected` gives, and is read without an error"
BYTES = "measured bytes equal the docstring's closed form"

_FUNCTIONS = {
    "init": ["params"],
    "broadcast": ["state", "ctx"],
    "enroll": ["payload", "ctx"],
    "update": ["payload", "client", "shard", "ctx"],
    "aggregate": ["state", "replies"],
    "model": ["state"],
}


def protocol(algorithm: Algorithm[Any, Any]) -> None:
    """The six functions are there."""
    for function, wanted in _FUNCTIONS.items():
        expected = f"{function}({', '.join(wanted)})"
        if not callable(getattr(algorithm, function, None)):
            raise LawBroken(PROTOCOL, name_of(algorithm), expected, f"no function {function}")
        parameters = inspect.signature(getattr(algorithm, function)).parameters
        if list(parameters)[: len(wanted)] != wanted:
            raise LawBroken(PROTOCOL, name_of(algorithm), expected, f"{function}({', '.join(parameters)})")


def pairs(algorithm: Algorithm[Any, Any], task: Task) -> None:
    """Codec, view, wires and server fit one another; what is merely likely to be a mistake is warned of."""
    found = findings(algorithm, task.init())
    wrong = [each.text for each in found if each.fatal]
    if wrong:
        raise LawBroken(PAIRS, name_of(algorithm), "parts that fit", "; ".join(wrong))
    for each in found:
        warnings.warn(each.text, stacklevel=3)


def model(algorithm: Algorithm[Any, Any], task: Task, played: Played) -> None:
    """In every round the model can be run, and state and memory can be stored."""
    name = name_of(algorithm)
    for state in played.states:
        served = algorithm.model(state)
        require_alike(MODEL, f"{name}.model", task.init(), served)
        for place, leaf in named_leaves(served).items():
            if not bool(torch.isfinite(leaf).all()):
                got = str(leaf.reshape(-1)[:4].tolist())
                raise LawBroken(MODEL, f"{name}.model", f"finite numbers at {place}", got)
        _storable(f"{name}'s server state", state)
    for seat in played.every_seat():
        _storable(f"{name}'s client memory", seat.memory)


def payloads(algorithm: Algorithm[Any, Any], played: Played) -> None:
    """Both directions hold tensors only, which survive save and load."""
    for seat in played.every_seat():
        check_payload(seat.sent, f"{name_of(algorithm)}.broadcast")
        check_payload(seat.reply, f"{name_of(algorithm)}.update")


def expected(algorithm: Any, played: Played) -> None:
    """What the server takes for a reply takes in all of them, where the method says what it expects."""
    for state, seats in zip(played.states, played.seats, strict=False):
        gate = Gate(algorithm, state, [Invitation(client, seat.ctx) for client, seat in seats.items()])
        for client, seat in seats.items():
            passed = gate.passed(Reply(client, seat.ctx, seat.reply))
            if isinstance(passed, Failure):
                raise LawBroken(EXPECTED, name_of(algorithm), "a reply that is accepted", passed.reason)


def crosses(
    algorithm: Algorithm[Any, Any],
    task: Task,
    shards: Sequence[Shard],
    played: Played,
    tolerance: float,
    capabilities: Sequence[float] = (1.0,),
) -> None:
    """Rounds over stored payloads, clients run by a copy of the algorithm, equal rounds in one piece.

    The order of the names in a payload means nothing.
    """
    name, attendance = name_of(algorithm), [dict.fromkeys(seats, True) for seats in played.seats]
    apart, other = (
        play(
            algorithm,
            task.init(),
            shards,
            attendance,
            cross=cross,
            clients=copy.deepcopy(algorithm),
            capabilities=capabilities,
        ).states[-1]
        for cross in (reload, reordered)
    )
    together = play(
        algorithm, task.init(), shards, attendance, cross=lambda payload: payload, capabilities=capabilities
    ).states[-1]
    require_same(CROSSES, name, algorithm.model(together), algorithm.model(apart))
    require_close(NAMES, name, algorithm.model(together), algorithm.model(other), tolerance)


def purity(
    algorithm: Algorithm[Any, Any],
    task: Task,
    shards: Sequence[Shard],
    rounds: int = 2,
    capabilities: Sequence[float] = (1.0,),
) -> None:
    """Each of the six functions, in each of some rounds."""
    name = name_of(algorithm)
    state = pure(f"{name}.init", algorithm.init, task.init())
    memories: dict[int, Tree] = {}
    for number in range(rounds):
        replies: list[Reply] = []
        for client, shard in enumerate(shards):
            capability = capabilities[client % len(capabilities)]
            ctx = context(number, client=client, seen=number - 1, capability=capability)
            sent = pure(f"{name}.broadcast", algorithm.broadcast, state, ctx)
            check_payload(sent, f"{name}.broadcast")
            if client not in memories:
                memories[client] = pure(f"{name}.enroll", algorithm.enroll, sent, ctx)
            reply, memories[client], _ = pure(f"{name}.update", algorithm.update, sent, memories[client], shard, ctx)
            replies.append(Reply(client, ctx, reply, shard.train.size))
        state, _ = pure(f"{name}.aggregate", algorithm.aggregate, state, replies)
        pure(f"{name}.model", algorithm.model, state)


def empty_round(
    algorithm: Algorithm[Any, Any],
    task: Task,
    shards: Sequence[Shard],
    played: Played,
    capabilities: Sequence[float] = (1.0,),
) -> None:
    """``aggregate(state, [])`` leaves the model as it is, from every state of a run, and the run goes on."""
    for state in played.states:
        before = copied(algorithm.model(state))
        after = algorithm.aggregate(state, iter(()))[0]
        require_same(EMPTY, f"{name_of(algorithm)}.aggregate", before, algorithm.model(after))
    gaps: Attendance = [{}, *everybody(len(shards), 1), {}, *everybody(len(shards), 1)]
    play(algorithm, task.init(), shards, gaps, capabilities=capabilities)


def order(algorithm: Algorithm[Any, Any], shards: Sequence[Shard], played: Played, tolerance: float) -> None:
    """The replies of a round in client order and in the opposite order: the same model up to rounding."""
    for state, seats in zip(played.states, played.seats, strict=False):
        replies = [Reply(c, seat.ctx, seat.reply, shards[c].train.size) for c, seat in seats.items()]
        forth, back = (algorithm.aggregate(state, iter(these))[0] for these in (replies, replies[::-1]))
        require_close(ORDER, name_of(algorithm), algorithm.model(forth), algorithm.model(back), tolerance)


def dropped(
    algorithm: Algorithm[Any, Any],
    task: Task,
    shards: Sequence[Shard],
    rounds: int = 6,
    capabilities: Sequence[float] = (1.0,),
) -> None:
    """Replies dropped after the client has moved on, against a run in which those clients stayed away."""
    attendance = [{c: (n + 2 * c) % 3 != 0 for c in range(len(shards)) if (n + c) % 4} for n in range(rounds)]
    without = [{client: True for client, accepted in seats.items() if accepted} for seats in attendance]
    played, never = (
        play(algorithm, task.init(), shards, these, capabilities=capabilities) for these in (attendance, without)
    )
    for a, b in zip(played.states, never.states, strict=True):
        require_same(DROPPED, name_of(algorithm), copied(b), copied(a))
    for seats, wanted in zip(played.seats, never.seats, strict=True):
        for client, seat in wanted.items():
            require_same(DROPPED, f"{name_of(algorithm)}'s client memory", seat.memory, seats[client].memory)


def measured_bytes(task: Task, played: Played, factory: Callable[..., Any], sizes: Mapping[str, Size]) -> None:
    """Payload bytes of clients that are never away, against the closed forms; the first download may be smaller."""
    d = tree.size(task.init())
    for number, seats in enumerate(played.seats):
        for client, seat in seats.items():
            wanted = documented_bytes(factory, {"d": d, **sizes_of(sizes, played, number, client)})
            got = {"up": single_precision_bytes(seat.reply), "down": single_precision_bytes(seat.sent)}
            saved = number == 0 and got["down"] <= wanted["down"]
            if got["up"] != wanted["up"] or not (saved or got["down"] == wanted["down"]):
                raise LawBroken(BYTES, f"{factory.__name__} (round {number}, client {client})", str(wanted), str(got))


def check_algorithm(
    algorithm: Algorithm[Any, Any],
    task: Task,
    shards: Sequence[Shard],
    *,
    factory: Callable[..., Any] | None = None,
    sizes: Mapping[str, Size] | None = None,
    tolerance: float | None = None,
    capabilities: Sequence[float] = (1.0,),
) -> None:
    """Every law of methods, over some rounds on tiny data.

    Args:
        algorithm: The method.
        task: The local problem.
        shards: Two or more clients' data, some examples each.
        factory: What made the method; with it, its docstring's ``Bytes:`` is compared with what is measured.
        sizes: Values of the names in these closed forms beside ``d``, such as ``{"p": 8}``; functions count what
            depends on the run (``fedsep.testing.documented.Size``).
        tolerance: Relative, of the law about the order of replies; by default 1e-9 in float64, 1e-4 in float32.
        capabilities: Of the clients, in their order; as often as it takes.

    Raises:
        LawBroken: A law does not hold, or a pair of parts does not fit; the message says which, what was expected and
            what came.
    """
    allowed = tolerance or (1e-9 if torch.get_default_dtype() == torch.float64 else 1e-4)
    protocol(algorithm)
    pairs(algorithm, task)
    purity(algorithm, task, shards, capabilities=capabilities)
    played = rehearse(algorithm, task, shards, capabilities=capabilities)
    model(algorithm, task, played)
    payloads(algorithm, played)
    expected(algorithm, played)
    if len(set(capabilities)) > 1:  # clients of one capability may reply in unlike forms, too
        expected(algorithm, rehearse(algorithm, task, shards, capabilities=[min(capabilities)]))
    crosses(algorithm, task, shards, played, allowed, capabilities)
    empty_round(algorithm, task, shards, played, capabilities)
    order(algorithm, shards, played, allowed)
    dropped(algorithm, task, shards, capabilities=capabilities)
    if factory is not None:
        measured_bytes(task, played, factory, sizes or {})


def rehearse(
    algorithm: Algorithm[Any, Any],
    task: Task,
    shards: Sequence[Shard],
    rounds: int = 4,
    capabilities: Sequence[float] = (1.0,),
) -> Played:
    """Some rounds in which everybody takes part, over stored payloads."""
    return play(algorithm, task.init(), shards, everybody(len(shards), rounds), capabilities=capabilities)


def _storable(subject: str, held: Tree) -> None:
    for place, leaf in named_leaves(held).items():
        if not isinstance(leaf, torch.Tensor | int | float | str | None):
            raise LawBroken(STATES, subject, f"a tensor, number or text at {place}", f"{type(leaf).__name__}: {leaf!r}")
