"""Workers come and go with their session: nothing is left behind, however it ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch
from engines.toys import FedAvg, Fleet, Task, differences, invite

from fedsep import tree
from fedsep.core import FedSepError
from fedsep.engines import workers
from fedsep.engines.workers import usable_cores

COHORT = [invite(0, client) for client in range(7)]


def opened(algorithm=None, **options):
    return workers(**options).open(algorithm or FedAvg(), Task(), Fleet(), lambda *_: None)


def shared_files():
    folder = Path("/dev/shm")
    return sorted(folder.iterdir()) if folder.is_dir() else []


def test_closing_leaves_nothing():
    me = psutil.Process()
    opened(processes=1).close()
    files, descriptors = shared_files(), me.num_fds()
    others = me.children()  # a tracker of resources stays once a process has been spawned
    for _ in range(3):
        session = opened(processes=3)
        assert len(me.children()) == len(others) + 3
        assert len(list(session.round(Task().init(), COHORT))) == 7
        session.close()
        session.close()
        assert me.children() == others
    assert (shared_files(), me.num_fds()) == (files, descriptors)
    assert not multiprocessing.active_children()


def test_two_sessions_at_once():
    one, two = opened(processes=2), opened(processes=1)
    pairs = zip(one.round(Task().init(), COHORT), two.round(Task().init(), COHORT), strict=True)
    assert not [d for a, b in pairs for d in differences(a, b)]
    one.close()
    assert len(list(two.round(Task().init(), COHORT))) == 7
    two.close()


def test_the_parent_has_one_thread_while_the_session_is_open():
    torch.set_num_threads(2)
    session = opened(processes=1)
    assert torch.get_num_threads() == 1
    session.close()
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


def test_a_round_that_nobody_finishes_does_not_disturb_the_next():
    session = opened(processes=2)
    expected = list(session.round(Task().init(), COHORT))
    other = tree.scale(Task().init(), 2.0)
    for taken in (1, 3):
        broken = session.round(other, COHORT)
        for _ in range(taken):
            next(broken)
        broken.close()
        assert not differences(expected, list(session.round(Task().init(), COHORT)))
    unfinished = session.round(other, COHORT)
    next(unfinished)
    session.close()
    unfinished.close()


def test_one_round_at_a_time():
    session = opened(processes=1)
    replies = session.round(Task().init(), COHORT)
    next(replies)
    with pytest.raises(RuntimeError, match="not been read to its end"):
        session.predict(Task().init(), "test")
    replies.close()
    session.close()


def test_a_session_outlives_the_thread_that_opened_it():
    sessions = []
    opener = threading.Thread(target=lambda: sessions.append(opened(processes=2)))
    opener.start()
    opener.join()
    time.sleep(0.1)
    assert all(psutil.Process(process.pid).is_running() for process in sessions[0].hands.alive())
    assert len(list(sessions[0].round(Task().init(), COHORT))) == 7
    sessions[0].close()


def test_ctrl_c_is_the_parents_business():
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job has it ignored
    session = opened(processes=2)
    before = [process.pid for process in session.hands.alive()]
    for pid in before:
        os.kill(pid, signal.SIGINT)
    assert len(list(session.round(Task().init(), COHORT))) == 7
    assert [process.pid for process in session.hands.alive()] == before
    session.close()
    signal.signal(signal.SIGINT, inherited)


ORPHAN = """
import os, signal, sys
sys.path.insert(0, "tests")
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job has it ignored
from engines.toys import FedAvg, Fleet, Task, invite
from fedsep.engines import workers

class Endless(FedAvg):
    def update(self, payload, client, shard, ctx):
        os.write(1, f"{os.getpid()}\\n".encode())
        while True:
            pass

session = workers(processes=2).open(Endless(), Task(), Fleet(), lambda *_: None)
list(session.round(Task().init(), [invite(0, 0), invite(0, 1)]))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_when_their_parent_does(number):
    parent = subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert parent.stdout is not None
    try:
        orphans = [psutil.Process(int(parent.stdout.readline())) for _ in range(2)]
        parent.send_signal(number)
        parent.wait(60)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    gone, alive = psutil.wait_procs(orphans, timeout=30)
    for process in alive:
        process.kill()
    assert len(gone) == 2


def test_users_see_what_they_print(tmp_path):
    class Talkative(FedAvg):
        def update(self, payload, client, shard, ctx):
            print("here")
            return super().update(payload, client, shard, ctx)

    with (tmp_path / "out").open("w") as out:
        before, sys.stdout = sys.stdout, out
        try:
            session = opened(Talkative(), processes=2)
            list(session.round(Task().init(), COHORT))
            session.close()
        finally:
            sys.stdout = before
    assert (tmp_path / "out").read_text() == "here\n" * 7


def test_an_algorithm_need_not_be_picklable():
    class Closed(FedAvg):
        def update(self, payload, client, shard, ctx):
            return rate(payload), client, {}

    rate = lambda payload: {name: -part for name, part in payload.items()}  # noqa: E731
    session = opened(Closed(), processes=1)
    reply = next(iter(session.round(Task().init(), COHORT))).reply
    session.close()
    assert torch.equal(reply.payload["a.bias"], -Task().init()["a.bias"])


@pytest.mark.parametrize(
    ("target", "value", "reason"),
    [
        ("multiprocessing.get_all_start_methods", lambda: ["spawn"], "this system cannot"),
        ("torch.cuda.is_initialized", lambda: True, "CUDA"),
    ],
)
def test_where_processes_cannot_be_forked(monkeypatch, target, value, reason):
    monkeypatch.setattr(target, value)
    with pytest.raises(FedSepError, match=rf"{reason}.*fedsep\.engines\.sequential"):
        opened()


def test_where_autograd_does_not_outlive_the_fork(monkeypatch):
    def backward(*_):
        raise RuntimeError("Unable to handle autograd's threading in combination with fork-based multiprocessing")

    monkeypatch.setattr(torch.Tensor, "backward", backward)
    torch.set_num_threads(2)
    with pytest.raises(FedSepError, match=r"autograd's threading.*fedsep\.engines\.sequential"):
        opened(processes=2)
    assert not multiprocessing.active_children()
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


def test_arguments_out_of_range():
    with pytest.raises(FedSepError, match=r"processes must be >= 1 \(got 0\); retries must be >= 0 \(got -1\)"):
        workers(processes=0, retries=-1)
    assert 1 <= usable_cores() <= os.cpu_count()
    session = opened()
    assert len(session.hands.alive()) == usable_cores()
    session.close()
