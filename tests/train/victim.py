"""Runs and kills itself, again and again: one process that forks, since importing torch takes longer than a run.

    python victim.py OUT sequential|workers memory|disk time|call NUMBER...

``time``: each run is killed after so many milliseconds. ``call``: each dies, without any clean-up, in the place of
its so-manieth call to the operating system that changes files. Every run goes on where the last one was killed;
the last is left alone. Prints how many runs were killed.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

import torch  # noqa: E402
from train.toys import FedAvg, Lossy, Sparse, coin, run  # noqa: E402

from fedsep.engines import sequential, workers  # noqa: E402
from fedsep.train import Checkpoint, Evaluate  # noqa: E402

CALLS = ("write", "fsync", "replace", "unlink", "truncate", "rmdir", "mkdir")


def go(out: str, engine: str, states: str) -> None:
    """One of two runs that have everything: client memory with losses, or a state that grows with evaluation."""
    if engine == "lossy":
        run(Sparse(), out, states=states, resume=True, engine=Lossy(coin), checkpoint=Checkpoint(every=2))
    else:
        made = workers(processes=2) if engine == "workers" else sequential()
        clients = Evaluate(every=2, clients=True, last=3)
        run(FedAvg(pause=0.004), out, states=states, resume=True, engine=made, evaluate=clients)


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


def attempt(how: str, number: int, arguments: list[str]) -> bool:
    """Runs in a child that is killed; True if it was killed before it was done."""
    child = os.fork()
    if child == 0:
        if how == "call":
            die_in_call(number)
        go(*arguments)
        os._exit(0)
    if how == "time":
        time.sleep(number / 1000)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def main() -> None:
    *arguments, how = sys.argv[1:5]
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    print(sum(attempt(how, int(number), arguments) for number in sys.argv[5:]))
    go(*arguments)


if __name__ == "__main__":
    main()
