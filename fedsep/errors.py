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


@contextmanager
def terminable() -> Generator[None]:
    """Lets SIGTERM interrupt as Ctrl-C does, in this process and its main thread; children die of it as ever."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def interrupt(number: int, frame: object) -> None:
        if os.getpid() == owner:
            raise KeyboardInterrupt
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)
