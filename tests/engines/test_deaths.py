"""A worker that dies is noticed, named and replaced; the run goes on, and its results are what they would be."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from engines.toys import FedAvg, Fleet, Task, differences, invite, play

from fedsep.core import Failure, FedSepError, stage
from fedsep.engines import sequential, workers


@dataclass(frozen=True)
class Deadly(FedAvg):
    """Kills the process that it runs in, ``lives`` times for every client in ``clients``."""

    folder: Path = Path()
    clients: tuple[int, ...] = ()
    lives: int = 1
    where: str = "learn"
    signal: int = signal.SIGKILL

    def learn(self, params, shard, ctx):
        with stage("learn"):
            self.die("learn", ctx)
        return super().learn(params, shard, ctx)

    def enroll(self, payload, ctx):
        self.die("enroll", ctx)
        return super().enroll(payload, ctx)

    def die(self, where, ctx):
        for client in self.clients:
            if where == self.where and ctx.key == invite(ctx.round, client).ctx.key:
                died = self.folder / f"{ctx.round} {client}"
                times = len(died.read_bytes()) if died.exists() else 0
                if times < self.lives:
                    died.write_bytes(b"x" * (times + 1))
                    os.kill(os.getpid(), self.signal) if self.signal else os._exit(3)


def round_of(algorithm, **engine):
    session = workers(**engine).open(algorithm, Task(), Fleet(), lambda *_: None)
    try:
        yield list(session.round(Task().init(), [invite(0, c) for c in range(7)]))
        yield list(session.round(Task().init(), [invite(1, c) for c in range(7)]))
    finally:
        session.close()


@pytest.mark.parametrize("processes", [1, 2])
def test_who_dies_once_is_tried_again(tmp_path, processes):
    deadly = Deadly(folder=tmp_path, clients=(0, 3, 4, 6))
    found = play(workers(processes=processes), deadly, Fleet())
    assert len(list(tmp_path.iterdir())) == 4 * 3
    assert not differences(play(sequential(), FedAvg(), Fleet()), found)


def test_a_death_that_is_made_up_for_is_told(tmp_path, caplog):
    session = workers(processes=1).open(Deadly(folder=tmp_path, clients=(4,)), Task(), Fleet(), lambda *_: None)
    found = list(session.round(Task().init(), [invite(0, c) for c in range(7)]))
    session.close()
    assert not any(isinstance(outcome, Failure) for outcome in found)
    [record] = caplog.records
    assert (record.name, record.levelname) == ("fedsep", "WARNING")
    told = record.getMessage()
    assert told.startswith("a worker process died (signal 9, SIGKILL; ")
    assert told.endswith(") at client 4, stage learn; what it was given is done again")


@pytest.mark.parametrize("where", ["learn", "enroll"])
def test_who_dies_always_is_a_failure_that_names_client_and_stage(tmp_path, where):
    deadly = Deadly(folder=tmp_path, clients=(2, 5), lives=99, where=where)
    expected = play(sequential(), FedAvg(), Fleet(), rounds=2)["replies"][:7]
    for found in round_of(deadly, processes=2):
        failures = {o.client: o for o in found if isinstance(o, Failure)}
        assert set(failures) == {2, 5}
        assert failures[5].stage == where
        assert failures[5].reason.startswith("worker process died 2 times (signal 9, SIGKILL")
        assert failures[5].sent
        assert [o.client if isinstance(o, Failure) else o.reply.client for o in found] == list(range(7))
        if found[0].reply.ctx.round == 0:
            replies = {reply.client: reply for reply in expected}
            assert not differences(
                [replies[c] for c in (0, 1, 3, 4, 6)], [o.reply for o in found if o[0] not in (2, 5)]
            )
    assert {path.name: path.stat().st_size for path in tmp_path.iterdir()} == {"0 2": 2, "0 5": 2, "1 2": 2, "1 5": 2}


@pytest.mark.parametrize(("retries", "deaths"), [(0, 1), (2, 3)])
def test_retries(tmp_path, retries, deaths):
    deadly = Deadly(folder=tmp_path, clients=(1,), lives=99, signal=0)
    first = next(round_of(deadly, processes=2, retries=retries))
    assert (tmp_path / "0 1").stat().st_size == deaths
    times = "" if deaths == 1 else f" {deaths} times"
    assert first[1].reason == f"worker process died{times} (exit code 3)"
    assert sum(isinstance(o, Failure) for o in first) == 1


@pytest.mark.parametrize("clients", [(), (0, 3), tuple(range(7))])
def test_what_was_sent_is_let_go(tmp_path, clients):
    session = workers(processes=2).open(Deadly(folder=tmp_path, clients=clients), Task(), Fleet(), lambda *_: None)
    store = session.hands._store
    for taken in (7, 3):
        outcomes = session.round(Task().init(), [invite(taken, c) for c in range(7)])
        first = [next(outcomes) for _ in range(taken)]
        outcomes.close()
        assert len(first) == taken
        assert not store._known
        assert not store._noted
        assert sum(size * len(free) for size, free in store._free.items()) == store._end
    session.close()


def test_everybody_may_die(tmp_path):
    for found in round_of(Deadly(folder=tmp_path, clients=tuple(range(7)), lives=99), processes=3):
        assert [o.client for o in found] == list(range(7))


def test_who_dies_between_tasks_is_not_tried_for_ever(monkeypatch):
    monkeypatch.setattr("fedsep.engines.worker.answered", lambda *_: os._exit(4))
    session = workers(processes=2).open(FedAvg(), Task(), Fleet(), lambda *_: None)
    found = list(session.round(Task().init(), [invite(0, c) for c in range(3)]))
    session.close()
    assert {(o.stage, o.reason) for o in found} == {("start", "worker process died 2 times (exit code 4)")}


def test_a_worker_that_dies_between_rounds_is_replaced():
    session = workers(processes=2).open(FedAvg(), Task(), Fleet(), lambda *_: None)
    cohort = [invite(0, c) for c in range(7)]
    expected = list(session.round(Task().init(), cohort))
    victims = [process.pid for process in session.hands.alive()]
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    assert not differences(expected, list(session.round(Task().init(), cohort)))
    assert not set(victims) & {process.pid for process in session.hands.alive()}
    session.close()


def test_a_worker_that_is_killed_at_work():
    class Slow(FedAvg):
        def update(self, payload, client, shard, ctx):
            time.sleep(0.05)
            return super().update(payload, client, shard, ctx)

    session = workers(processes=2).open(Slow(), Task(), Fleet(), lambda *_: None)
    replies = session.round(Task().init(), [invite(0, c) for c in range(7)])
    clients = [next(replies).reply.client]
    for process in session.hands.alive():
        os.kill(process.pid, signal.SIGKILL)
    clients += [outcome.reply.client for outcome in replies]
    session.close()
    assert clients == list(range(7))


def test_death_in_an_evaluation():
    class Fatal(Task):
        def predict(self, params, x):
            os._exit(5)

    session = workers(processes=2).open(FedAvg(), Fatal(), Fleet(), lambda *_: None)
    with pytest.raises(FedSepError, match=r"evaluated on the test set: worker process died 2 times \(exit code 5\)"):
        session.predict(Task().init(), "test")
    assert len(list(session.round(Task().init(), [invite(0, 0)]))) == 1
    session.close()
