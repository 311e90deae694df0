"""How often a round makes the host wait for a device: it looks at numbers, which it would have to have computed.

A CPU that is taken for a device (``far``) shows it: every look from Python is counted, and where it comes from.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from catalogue import Tiny, shard
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import fedsep.engines.client
import fedsep.looking
import fedsep.memo
import fedsep.replies
import fedsep.round
from fedsep import algorithms, engines, random, tree
from fedsep.core import Ctx, Failure, Invitation, Reply
from fedsep.engines.engine import Delivered
from fedsep.looking import finite, look
from fedsep.replies import LOSS, NOT_FINITE, Gate
from fedsep.round import Accepted, Memories, play
from fedsep.store import InMemory
from fedsep.train import Accept

LIBRARY = Path(fedsep.__file__).parent

WAIT = ("_local_scalar_dense", "equal", "nonzero", "masked_select", "_unique2", "is_nonzero")
"""Operators of which the host needs the result."""

AT_HOME = {("random.py", "fold"), ("digest.py", "seal"), ("digest.py", "check_digest"), ("linear.py", "digest")}
"""Functions that look at what lies in main memory, whatever is computed on: keys, digests, rounds of clients."""

OWN_AT_HOME = {("replay.py", "digest"), ("announce.py", "step"), ("digest.py", "fold_digest")}
"""The same of what they look at themselves: clients run, and look, while the server steps."""


def where():
    """The functions of the library that led here, the innermost first."""
    frame, found = sys._getframe(2), []
    while frame:
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(LIBRARY):
            found.append((file.name, frame.f_code.co_name))
        frame = frame.f_back
    return found


class _Ops(TorchDispatchMode):
    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.split("::")[1]
        if name in WAIT and not AT_HOME & set(came := where()) and not OWN_AT_HOME & set(came[:1]):
            self.seen[(name, *came[:2])] += 1
        return func(*args, **(kwargs or {}))


class Looks(TorchFunctionMode):
    """Counts the looks that are taken inside, by where they are taken."""

    def __init__(self):
        super().__init__()
        self.seen = Counter()
        self._ops = _Ops(self.seen)

    def __enter__(self):
        self._ops.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._ops.__exit__(*error)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (torch.Tensor.tolist, torch.Tensor.cpu) and not AT_HOME & set(came := where()):
            self.seen[(func.__name__, *came[:2])] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture
def device(monkeypatch):
    """The CPU taken for a device."""
    for module in (fedsep.looking, fedsep.replies, fedsep.round, fedsep.engines.client, fedsep.memo):
        monkeypatch.setattr(module, "far", lambda value: True)


class Deep(Tiny):
    """A network of so many tensors more."""

    more = 20

    def init(self):
        return {**super().init(), **{f"more.{n}": torch.zeros(2) for n in range(self.more)}}

    def predict(self, params, x):
        return super().predict(params, x) + sum(params[f"more.{n}"].sum() for n in range(self.more))


class Fleet:
    def __init__(self, task, clients):
        self.clients = clients
        self.parts = [shard(task, client, 8) for client in range(clients)]

    def shard(self, client):
        return self.parts[client]


def looks(engine, make, task, clients, rounds=4):
    """The looks of each round."""
    algorithm, fleet = make(task), Fleet(task, clients)
    memories = Memories(InMemory(), InMemory())
    never = torch.full((clients,), -1)
    state, accepted, seen = algorithm.init(task.init()), Accepted(never, never), []
    session = engine.open(algorithm, task, fleet, memories.clients.recall)
    for number in range(rounds):
        last = accepted.seen.tolist()
        cohort = [Invitation(c, Ctx(number, 1.0, random.key(100 * number + c), last[c])) for c in range(clients)]
        with Looks() as found:
            played = play(algorithm, session, state, cohort, memories, accepted, 1)
        assert len(played.tally.delivered) == clients
        assert played.columns["train_loss"] > 0
        state, accepted = played.state, played.accepted
        seen.append(found.seen)
    session.close()
    return seen


def fedavg(task):
    return algorithms.fedavg(task, steps=2, batch_size=4, clip=1.0)


def linear(task):
    return algorithms.fedsep_linear(task, p=6, period=2, steps=2, batch_size=4)


@pytest.mark.parametrize("engine", [engines.sequential(), engines.vectorised()], ids=["sequential", "vectorised"])
@pytest.mark.parametrize("task", [Tiny(), Deep()], ids=["4 tensors", "24 tensors"])
@pytest.mark.parametrize("clients", [3, 9])
def test_fedavg_looks_twice_a_round(device, engine, task, clients):
    """At the replies, all of them and their losses at once, and at the server's state."""
    for seen in looks(engine, fedavg, task, clients):
        assert sum(seen.values()) == 2, seen


def quantised(task):
    return algorithms.fedsep_quantised(task, p=6, period=2, steps=2, batch_size=4)


@pytest.mark.parametrize("engine", [engines.sequential(), engines.vectorised()], ids=["sequential", "vectorised"])
@pytest.mark.parametrize("method", [linear, quantised])
@pytest.mark.parametrize("task", [Tiny, Deep], ids=["4 tensors", "24 tensors"])
def test_sketches_look_as_often_for_many_clients_as_for_few(device, engine, method, task):
    """At the key of a new S, at what is folded, and where what is remembered may be what others bring anew."""
    torch.set_default_dtype(torch.float32)  # in which it travels, so that all are sent the very same tensor
    few, many = ([sum(seen.values()) for seen in looks(engine, method, task(), clients, 6)] for clients in (3, 9))
    assert few == many
    assert max(few) <= (6 if method is linear else 9)


def test_replies_are_held_up_to_a_number_of_bytes(device, monkeypatch):
    # A reply is counted with the dense change that it may become.
    monkeypatch.setattr(fedsep.round, "HELD_BYTES", 3 * 2 * tree.nbytes(Tiny().init()))
    for seen in looks(engines.sequential(), fedavg, Tiny(), 7):
        assert sum(seen.values()) == 3 + 1, seen  # at 3, 3 and 1 replies, and at the server's state


def test_replies_of_few_bytes_are_held_with_the_changes_that_they_become(device, monkeypatch):
    def groups(held):
        monkeypatch.setattr(fedsep.round, "HELD_BYTES", held)
        return [sum(seen.values()) for seen in looks(engines.sequential(), few, Tiny(), 7)]

    def few(task):
        return algorithms.topk_ef(task, k=2, steps=1, batch_size=4)

    size = tree.nbytes(Tiny().init())
    assert min(a - b for a, b in zip(groups(size), groups(1 << 28), strict=True)) == 6  # one by one, and all together


@pytest.mark.parametrize(("models", "held"), [(0.5, 1), (1, 1), (3, 3), (1000, 16)])
def test_on_a_cpu_replies_are_folded_as_they_come_or_a_few_small_ones_at_once(models, held, monkeypatch):
    """Without the pretended device: as many are looked at before the next client begins as models fit a cache."""
    monkeypatch.setattr(fedsep.round, "_NEAR_BYTES", int(models * tree.nbytes(Tiny().init())))
    order = []

    class Told(algorithms.fedavg(Tiny()).__class__):
        def update(self, *given):
            order.append("update")
            return super().update(*given)

        def read(self, state, reply):
            order.append("read")
            return super().read(state, reply)

    def made(task):
        plain = fedavg(task)
        return Told(**{each.name: getattr(plain, each.name) for each in dataclasses.fields(plain)})

    looks(engines.sequential(), made, Tiny(), 49, rounds=1)
    assert order == ["update", "read"] + (["update"] * held + ["read"] * held) * (48 // held)


class Open:
    """A gate that lets everything through."""

    state = torch.zeros(2)

    def judged(self, replies):
        return replies


@pytest.mark.parametrize(("numbers", "held"), [(10, 16), (10_000, 6), (1_000_000, 1)])
@pytest.mark.parametrize("where", ["payload", "memory"])
def test_how_many_small_replies_are_held_follows_from_what_they_and_their_memories_take(where, numbers, held):
    large, small, begun = torch.zeros(numbers, dtype=torch.float64), torch.zeros(1), []
    payload, memory = (large, small) if where == "payload" else (small, large)

    def outcomes():
        for client in range(40):
            begun.append(client)
            yield Delivered(Reply(client, Ctx(0, 1.0, random.key(client)), payload), memory)

    groups = Counter(len(begun) for _ in fedsep.round._judged(outcomes(), Open()))
    assert list(groups.values())[:2] == [1, held]  # the first is alone


# What is refused, and why, does not depend on when it is looked at.


def replies():
    """Replies of all kinds to one round of FedAvg, each of another client, and the round's gate, made anew."""
    task = Tiny()
    algorithm = fedavg(task)
    good = task.init()
    bad = {**good, "0.bias": torch.full_like(good["0.bias"], torch.nan)}
    large = {**good, "0.bias": torch.full_like(good["0.bias"], 1.5e308)}  # the sum overflows, no number does
    loss = torch.tensor(0.5)
    told = [
        (good, 7, {"loss": loss}), (bad, 7, {"loss": loss}), (good, 7, {"loss": loss * torch.inf}),
        (bad, 7, {"loss": loss * torch.nan}), (large, 7, {"loss": loss}), ({"w": loss}, 7, {"loss": loss}),
        ({"w": loss}, 7, {"loss": loss * torch.inf}), (good, -1, {"loss": loss}), (bad, -1, {"loss": loss}),
        ({**good, "0.bias": "text"}, 7, {"loss": loss}), (tree.scale(good, 1e6), 7, {"loss": loss, "steps": loss}),
        (good, 7, {"loss": "low"}), (good, 7, {}),
    ]  # fmt: skip
    cohort = [Invitation(client, Ctx(0, 1.0, random.key(client))) for client in range(len(told))]
    gate = Gate(algorithm, algorithm.init(good), cohort)
    asked = [Reply(c, cohort[c].ctx, payload, n, {"model": 8}, info) for c, (payload, n, info) in enumerate(told)]
    return gate, [*asked, asked[0], asked[1]._replace(client=99)]


def as_said(judged):
    """Without tracebacks, and with what a good reply tells."""
    return [
        (each.stage, each.reason, each.received, each.sent) if isinstance(each, Failure) else (each.info, each.samples)
        for each in judged
    ]


def test_what_is_refused_does_not_depend_on_how_many_are_looked_at(device):
    gate, asked = replies()
    one_by_one = as_said([gate.passed(reply) for reply in asked])
    gate, asked = replies()
    assert as_said(gate.judged(asked)) == one_by_one
    stages = [each[0] for each in one_by_one]
    assert [stage if isinstance(stage, str) else "good" for stage in stages] == [
        "good", "reply", LOSS, LOSS, "good", "reply", LOSS, "reply", "reply", "reply", "good", "reply", "good",
        "duplicate", "uninvited",
    ]  # fmt: skip
    assert one_by_one[8][1] == NOT_FINITE
    assert one_by_one[10][0] == {"loss": 0.5, "steps": 0.5}


def test_what_is_refused_does_not_depend_on_the_device():
    def numbers(reply):
        info = {name: float(value) if isinstance(value, torch.Tensor) else value for name, value in reply.info.items()}
        return reply._replace(info=info)

    gate, asked = replies()
    near = as_said([gate.passed(numbers(reply)) for reply in asked])
    with pytest.MonkeyPatch.context() as patched:
        for module in (fedsep.looking, fedsep.replies):
            patched.setattr(module, "far", lambda value: True)
        gate, asked = replies()
        assert as_said(gate.judged(asked)) == near


def test_numbers_of_several_types_are_looked_at_each_as_it_is(device):
    values = [torch.tensor(0.1, dtype=torch.float32), torch.tensor(2**53 + 1), torch.tensor(True), torch.tensor(0.1)]
    assert look(values) == [value.item() for value in values]
    assert look([]) == []
    assert finite({"a": [torch.ones(3), (torch.ones(2, dtype=torch.float16), 3)], "b": torch.tensor(2)})
    assert not finite([torch.ones(3), {"x": torch.tensor([1.0, torch.inf])}])
    assert finite(torch.full((4,), 6e4, dtype=torch.float16))  # their sum is not


def test_accept_norm_is_looked_at_with_the_rest(device):
    gate, asked = replies()
    gate.accept = Accept(norm=1e-3)
    with Looks() as found:
        judged = gate.judged(asked[:1] * 1)
    assert "more than accept.norm = 0.001" in judged[0].reason
    assert sum(found.seen.values()) == 1
