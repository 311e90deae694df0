"""How a run can end early."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from fedsep.core import FedSepError


class RunFailed(FedSepError):
    """The run had to stop; the message says in which round, why, and where its last checkpoint is."""


class CannotWrite(RunFailed):
    """A file of the run could not be written: the disk is full, or the folder is gone."""


class LostRank(RunFailed):
    """A process that worked for the run is gone; the run can go on with fewer."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM, after a checkpoint; the message says how to resume.

    Attributes:
        folder: The run's folder, None if nothing was written.
        round: Number of complete rounds.
    """

    def __init__(self, message: str, folder: Path | None, round: int) -> None:
        super().__init__(message)
        self.folder = folder
        self.round = round


class Dismissed(KeyboardInterrupt):
    """torchrun ends this process: it was asked to end them all, or another one is gone."""


@contextmanager
def terminable() -> Generator[None]:
    """Lets SIGTERM interrupt as Ctrl-C does, in this process and its main thread; children die of it as ever.

    Under torchrun either comes more than once (from the user, and from torchrun): the first interrupts, and the
    others do not keep the run from being saved.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def interrupt(number: int, frame: object) -> None:
        if os.getpid() == owner:
            deafen()
            raise Dismissed if number == signal.SIGTERM and _by_torchrun() else KeyboardInterrupt
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    before = {number: signal.signal(number, interrupt) for number in _signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is interrupt:  # else it is deaf
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def deafen() -> None:
    """Under torchrun, lets nothing but SIGKILL end this process from now on: it is about to end by itself."""
    if _by_torchrun() and threading.current_thread() is threading.main_thread():
        for number in _signals():
            signal.signal(number, signal.SIG_IGN)


def _signals() -> tuple[int, ...]:
    return (signal.SIGTERM, signal.SIGINT) if _by_torchrun() else (signal.SIGTERM,)


def _by_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ
