"""A worker process as its parent sees it: started, given chunks of tasks, asked for answers, and stopped."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fedsep.core import FedSepError
from fedsep.engines.arena import Arena
from fedsep.engines.lost import lost
from fedsep.engines.mail import Reader
from fedsep.engines.status import Status
from fedsep.engines.store import Block, Store
from fedsep.engines.worker import ANSWER, CHUNK, Desk, Handle, serve

_GREETING_SECONDS = 60


@dataclass
class Task:
    """A piece of work; it is kept until it is answered, so that another worker can be asked."""

    number: int
    call: object
    deaths: int = 0


@dataclass
class Chunk:
    """Tasks that are sent together: where their letter lies, its length, and the blocks that it takes."""

    tasks: list[Task]
    offset: int
    length: int
    blocks: list[Block]


class Answer(NamedTuple):
    """What came of tasks that were sent together, and about how many bytes one outcome takes.

    It is one ``Lost`` for all of them if they could not be sent, done or answered together.
    """

    tasks: list[Task]
    outcomes: list[Any]
    nbytes: int


@dataclass(eq=False)
class Process:
    """A running worker.

    Attributes:
        desk: What is shared with it.
        chunks: What was sent and is not answered yet, at most two.
        pace: Seconds a task took in the latest chunk.
    """

    handle: Handle
    inbox: Arena
    store: Store
    reader: Reader
    chunks: deque[Chunk] = field(default_factory=deque)
    pace: float = math.inf
    _turn: int = 0

    def __post_init__(self) -> None:
        line, theirs = multiprocessing.Pipe()
        self.desk = Desk(line, self.inbox, (Arena(), Arena()), Status())
        context = multiprocessing.get_context("fork")
        desk = self.desk._replace(line=theirs)
        self._process = context.Process(target=serve, args=(self.handle, desk, os.getpid()), daemon=True)
        with _forking():
            self._process.start()
        theirs.close()

    @property
    def pid(self) -> int | None:
        """The system's number for it."""
        return self._process.pid

    def greet(self) -> None:
        """Waits until the worker is ready.

        Raises:
            FedSepError: It cannot work.
        """
        try:
            ready = self.desk.line.poll(_GREETING_SECONDS)
            problem = self.desk.line.recv_bytes().decode() if ready else f"no sign of it in {_GREETING_SECONDS} s"
        except (EOFError, ConnectionError):
            problem = "it died at once"
        if problem:
            raise FedSepError(f"a worker process cannot work here ({problem}): use fedsep.engines.sequential")

    def send(self, chunk: Chunk) -> None:
        """Gives the worker a chunk.

        Raises:
            ConnectionError: It has died; the chunk counts as sent.
        """
        self.chunks.append(chunk)
        self.desk.line.send_bytes(CHUNK.pack(chunk.offset, chunk.length))

    def receive(self) -> Answer:
        """The answer to the chunk that was sent first.

        Raises:
            EOFError, ConnectionError: The worker has died.
        """
        offset, length, seconds = ANSWER.unpack(self.desk.line.recv_bytes())
        outcomes = self._read(offset, length)
        chunk = self.chunks.popleft()
        self._turn += 1
        self.pace = seconds / len(chunk.tasks)
        self.store.release(chunk.blocks)
        return Answer(chunk.tasks, outcomes, (offset + length) // len(chunk.tasks))

    def _read(self, offset: int, length: int) -> list[Any]:
        try:
            return list(self.reader.read(offset, length, self.desk.outboxes[self._turn % 2]))
        except Exception as error:  # a class that only the worker has
            return [lost(error, "reply")]

    def stop(self) -> int | None:
        """Ends the process at once, dead or alive, and gives back its memory and its chunks' blocks; its exit code."""
        self._process.kill()
        self._process.join()
        code = self._process.exitcode
        self._process.close()
        self.desk.line.close()
        self.desk.status.close()
        for outbox in self.desk.outboxes:
            outbox.close()
        self.store.release([block for chunk in self.chunks for block in chunk.blocks])
        return code


@contextmanager
def _forking() -> Iterator[None]:
    """What must hold while a worker is forked.

    The child uses none of the parent's threads, so Python 3.12's warning does not apply; Ctrl-C waits until the
    child has become deaf to it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
