"""What goes wrong in a client's part is a value with its client, stage and reason, the same from both engines."""

from __future__ import annotations

import pytest
import torch
from engines.toys import FedAvg, Fleet, Silent, Task, differences, invite

from fedsep.core import Failure, FedSepError
from fedsep.engines import sequential, workers
from fedsep.engines.engine import Delivered
from fedsep.engines.work import Work


class Mistaken(FedAvg):
    """Fails for some clients, in every stage there is."""

    def broadcast(self, state, ctx):
        if ctx.capability == 0.25:
            raise ValueError("cannot be sent")
        return {"part": "text"} if ctx.capability == 0.125 else state

    def enroll(self, payload, ctx):
        if ctx.capability == 0.5:
            raise FedSepError("this client cannot enroll")
        return ()

    def update(self, payload, client, shard, ctx):
        if ctx.capability == 0.75:
            return {"update": 3.0}, client, {}
        if ctx.capability == 0.875:
            self.learn({}, shard, ctx)
        return super().update(payload, client, shard, ctx)


CAPABILITIES = {0: 0.125, 2: 0.25, 3: 0.5, 4: 0.75, 6: 0.875}


class Holey(Fleet):
    """Has lost the data of client 5."""

    def shard(self, client):
        if client == 5:
            raise FileNotFoundError("shard 5")
        return super().shard(client)


def outcomes(engine, algorithm, recall=lambda *_: None, method="round"):
    session = engine.open(algorithm, Task(), Holey(clients=8), recall)
    cohort = [invite(0, c) for c in range(8)]
    cohort = [i._replace(ctx=i.ctx._replace(capability=CAPABILITIES.get(i.client, 1.0))) for i in cohort]
    try:
        return list(getattr(session, method)(Task().init(), cohort))
    finally:
        session.close()


def test_every_stage_can_fail():
    found = outcomes(workers(processes=2), Mistaken())
    stages = {o.client: o.stage for o in found if isinstance(o, Failure)}
    assert stages == {0: "broadcast", 2: "broadcast", 3: "enroll", 4: "update", 5: "data", 6: "learn"}
    assert [o.reply.client for o in found if isinstance(o, Delivered)] == [1, 7]
    assert [o.client if isinstance(o, Failure) else o.reply.client for o in found] == list(range(8))
    assert found[3].reason == "this client cannot enroll"
    assert not found[3].traceback
    assert found[5].reason == "FileNotFoundError: shard 5"
    assert "FileNotFoundError" in found[5].traceback
    assert found[5].sent == {"model": 8 * sum(part.numel() for part in Task().init().values())}
    assert found[2].sent == {}


@pytest.mark.parametrize("method", ["round", "local"])
def test_failures_are_the_same_in_both_engines(method):
    expected = outcomes(sequential(), Mistaken(), method=method)
    assert not differences(expected, outcomes(workers(processes=2), Mistaken(), method=method))


def test_a_memory_that_cannot_be_recalled():
    def recall(client, seen):
        if client == 1:
            raise FedSepError("the memory of client 1 is gone")

    expected = outcomes(sequential(), FedAvg(), recall)
    assert (expected[1].stage, expected[1].reason) == ("memory", "the memory of client 1 is gone")
    assert not differences(expected, outcomes(workers(processes=2), FedAvg(), recall))


def test_what_cannot_be_sent_is_a_failure():
    class Local(FedAvg):
        def update(self, payload, client, shard, ctx):
            payload, _, info = super().update(payload, client, shard, ctx)
            return payload, (lambda: 0) if ctx.capability < 1 else (), info

    found = outcomes(workers(processes=2), Local())
    assert [isinstance(o, Failure) for o in found] == [c in CAPABILITIES or c == 5 for c in range(8)]
    assert "pickle" in found[0].reason

    class Strange(FedAvg):
        def update(self, payload, client, shard, ctx):
            return super().update(payload, client, shard, ctx)[0], made_by_a_worker(), {}

    found = outcomes(workers(processes=2), Strange())
    assert {o.stage for o in found} == {"reply", "data"}

    found = outcomes(workers(processes=2), FedAvg(), lambda client, seen: (lambda: 0) if client == 2 else None)
    assert [o.client for o in found if isinstance(o, Failure)] == [2, 5]
    assert found[2].stage == "send"


class Quick(Silent):
    """Forty of these make a chunk; every tenth client's memory is of a kind that makes trouble on its way."""

    def update(self, payload, client, shard, ctx):
        trouble = {0.25: lambda: 0, 0.5: unreadable} if ctx.round else {}
        memory = made_by_a_worker() if ctx.round and ctx.capability == 0.75 else trouble.get(ctx.capability, client)
        return payload, memory, {}


class Unreadable:
    def __reduce__(self):
        return refuse, ()


def refuse():
    raise ValueError("cannot be read")


unreadable = Unreadable()


@pytest.mark.parametrize(("capability", "stage"), [(0.25, "update"), (0.5, "reply"), (0.75, "reply"), (0.875, "send")])
def test_trouble_on_the_way_is_one_clients_in_a_large_chunk(monkeypatch, capability, stage):
    def recall(client, seen):
        return (lambda: 0) if capability == 0.875 and seen == 0 and client % 10 == 3 else ()

    monkeypatch.setattr("fedsep.engines.pool.CHUNK_SECONDS", (1.0, 1.0))  # however slow the machine is
    sizes = []
    take = Work.take
    monkeypatch.setattr(Work, "take", lambda work, most: sizes.append(most) or take(work, most))
    session = workers(processes=2).open(Quick(), Task(), Fleet(clients=80), recall)
    cohorts = [[invite(round, client, round - 1) for client in range(80)] for round in range(2)]
    cohorts[1][3::10] = [seat._replace(ctx=seat.ctx._replace(capability=capability)) for seat in cohorts[1][3::10]]
    assert all(isinstance(o, Delivered) for _ in range(2) for o in session.round({}, cohorts[0]))
    sizes.clear()
    found = list(session.round({}, cohorts[1]))
    session.close()
    assert max(sizes) > 1
    assert [o.client if isinstance(o, Failure) else o.reply.client for o in found] == list(range(80))
    assert {o.client: o.stage for o in found if isinstance(o, Failure)} == dict.fromkeys(range(3, 80, 10), stage)


def made_by_a_worker():
    """An instance of a class that does not exist in the parent."""
    made = type("Made", (), {"__module__": __name__})
    globals()["Made"] = made
    return made()


class Untidy(Task):
    def predict(self, params, x):
        if x[0, 0, 0, 0] != 0:
            raise ZeroDivisionError("in the user's model")
        return super().predict(params, x)


def test_an_error_in_the_model_is_raised_as_it_is():
    session = workers(processes=2).open(FedAvg(), Untidy(), Fleet(), lambda *_: None)
    with pytest.raises(ZeroDivisionError, match="in the user's model"):
        session.predict(Task().init(), "test")
    session.close()
    assert torch.get_num_threads() == 1
