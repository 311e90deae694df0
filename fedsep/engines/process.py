"""A worker process as its parent sees it: started, given chunks of tasks, asked for answers, and stopped."""

from __future__ import annotations

import math
import multiprocessing
import os
import pickle
import signal
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

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
    """A piece of work as a letter; it is kept until it is answered, so that another worker can be asked."""

    number: int
    letter: bytes
    blocks: list[Block]
    deaths: int = 0


@dataclass
class Chunk:
    """Tasks that were sent together, and the block that their letters lie in."""

    tasks: list[Task]
    block: Block


@dataclass
class Answer:
    """One task's outcome, and about how many bytes it takes."""

    task: Task
    outcome: Any
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

    def send(self, tasks: list[Task]) -> None:
        """Gives the worker a chunk.

        Raises:
            ConnectionError: It has died; the chunk counts as sent.
        """
        letter = pickle.dumps([(task.number, task.letter) for task in tasks])
        block = self.store.write_bytes(letter)
        self.chunks.append(Chunk(tasks, block))
        self.desk.line.send_bytes(CHUNK.pack(block.offset, len(letter)))

    def receive(self) -> list[Answer]:
        """The answers to the chunk that was sent first.

        Raises:
            EOFError, ConnectionError: The worker has died.
        """
        offset, length, seconds = ANSWER.unpack(self.desk.line.recv_bytes())
        chunk = self.chunks[0]
        outbox = self.desk.outboxes[self._turn % 2]
        letters: list[bytes] = pickle.loads(outbox.read_bytes(offset, length))
        outcomes = [self._read(letter, outbox) for letter in letters]
        self.chunks.popleft()
        self._turn += 1
        self.pace = seconds / len(letters)
        self.store.release([chunk.block, *(block for task in chunk.tasks for block in task.blocks)])
        nbytes = (offset + length) // len(letters)
        return [Answer(task, outcome, nbytes) for task, outcome in zip(chunk.tasks, outcomes, strict=True)]

    def _read(self, letter: bytes, outbox: Arena) -> Any:
        try:
            return self.reader.read(letter, outbox)
        except Exception as error:  # a class that only the worker has
            return lost(error, "reply")

    def stop(self) -> int | None:
        """Ends the process at once, dead or alive, and gives back all but its unanswered tasks; its exit code."""
        self._process.kill()
        self._process.join()
        code = self._process.exitcode
        self._process.close()
        self.desk.line.close()
        self.desk.status.close()
        for outbox in self.desk.outboxes:
            outbox.close()
        self.store.release([chunk.block for chunk in self.chunks])
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
