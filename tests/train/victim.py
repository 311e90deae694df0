"""Runs that are killed, again and again: each is a fork of this process, since importing torch takes longer than a run.

``time``: a run is killed after so many milliseconds. ``call``: it dies, without any clean-up, in the place of its
so-manieth call to the operating system that changes files. Every run goes on where the last one was killed.
"""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

from train.toys import FedAvg, Lossy, Sparse, coin, run

from fedsep.engines import sequential, workers
from fedsep.train import Checkpoint, Evaluate, Run

CALLS = ("write", "fsync", "replace", "unlink", "truncate", "rmdir", "mkdir")


def go(out: Path, engine: str, states: str) -> Run:
    """One of two runs that have everything: client memory with losses, or a state that grows with evaluation."""
    if engine == "lossy":
        return run(Sparse(), out, states=states, resume=True, engine=Lossy(coin), checkpoint=Checkpoint(every=2))
    made = workers(processes=2) if engine == "workers" else sequential()
    clients = Evaluate(every=2, clients=True, last=3)
    return run(FedAvg(pause=0.004), out, states=states, resume=True, engine=made, evaluate=clients)


def die_in_call(number: int) -> None:
    """Makes the ``number``-th call that changes a file the last thing this process does."""
    left = [number]

    def deadly(call):
        def instead(*args, **kwargs):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return instead

    for name in CALLS:
        setattr(os, name, deadly(getattr(os, name)))


def killed(how: str, numbers: Iterable[int], *arguments) -> int:
    """How many of the runs, one for every number, were killed before they were done."""
    return sum(_attempt(how, number, lambda: go(*arguments)) for number in numbers)


def _attempt(how: str, number: int, act: Callable[[], object]) -> bool:
    child = os.fork()
    if child == 0:
        try:
            if how == "call":
                die_in_call(number)
            act()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    if how == "time":
        time.sleep(number / 1000)
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0
