"""What runs in a worker process: it takes a chunk of tasks, answers, and takes the next, until its parent is gone."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import torch

from fedsep.core import watch_stages
from fedsep.engines.arena import Arena
from fedsep.engines.lost import lost
from fedsep.engines.mail import Inbox, Outbox
from fedsep.engines.status import Status

CHUNK = struct.Struct("<qq")
"""A chunk: where in the parent's arena the letter of (task, call) pairs starts, and its length."""
ANSWER = struct.Struct("<qqd")
"""Its answer: where in the worker's arena the letter of outcomes starts, its length, and seconds of work.

It holds one ``Lost`` instead of the outcomes if the chunk could not be read, or they could not be written.
"""

_WATCH_SECONDS = 0.5

Handle = Callable[[Any], Any]
"""What is done with a task; known to the worker from before the fork, so that it need not be picklable."""


class Desk(NamedTuple):
    """What a worker shares with its parent.

    Attributes:
        line: For the few bytes that say where a chunk or its answer lies.
        inbox: Written by the parent, read by every worker.
        outboxes: Written by this worker for every other chunk: the parent sends chunk k + 2 when it has read
            the answer to chunk k, so neither is written over before it is read.
        status: What the worker is at.
    """

    line: Connection
    inbox: Arena
    outboxes: tuple[Arena, Arena]
    status: Status


def serve(handle: Handle, desk: Desk, parent: int) -> None:
    """Works until it is killed or its parent dies; never returns.

    The first message says what is wrong with this process; nothing, if it is empty.
    """
    _move_in(desk.status, parent)
    desk.line.send_bytes(_problem().encode())
    inbox = Inbox(desk.inbox)
    for turn in itertools.count():
        inbox.turn()
        chunk = CHUNK.unpack(desk.line.recv_bytes())
        outbox = Outbox(desk.outboxes[turn % 2], inbox)
        started = time.perf_counter()
        answer = answered(handle, desk.status, inbox.read(*chunk), outbox)
        desk.line.send_bytes(ANSWER.pack(*answer, time.perf_counter() - started))


def answered(handle: Handle, status: Status, chunk: Iterator[Any], outbox: Outbox) -> tuple[int, int]:
    """Does a chunk and writes the letter of its outcomes; where it lies, and its length."""
    try:
        return outbox.write([_outcome(handle, status, *pair) for pair in chunk])
    except Exception as error:
        return outbox.write([lost(error, status.read()[1])])
    finally:
        status.rest()


def _outcome(handle: Handle, status: Status, task: int, call: Any) -> Any:
    status.begin(task)
    try:
        return handle(call)
    except Exception as error:
        return lost(error, status.read()[1])


def _move_in(status: Status, parent: int) -> None:
    """Makes this copy of the parent a worker: one thread, deaf to Ctrl-C, gone when the parent is."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    gc.freeze()  # what the parent made is not looked through again, and its pages stay shared
    torch.set_num_threads(1)
    watch_stages(status.stage)
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(line_buffering=True)  # a worker is killed: what a user prints must not wait in its buffer
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    """Ends this process when its parent is dead, also in the middle of a long task.

    Asking is the one way that works everywhere: the kernel's death signal follows the thread that forked, not the
    parent, and the end of a pipe is not seen as long as another process has a copy of it.
    """
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os._exit(0)


def _problem() -> str:
    """Why this process cannot work: with a GPU in the machine, autograd does not outlive a fork once it was used."""
    try:
        torch.zeros(1, requires_grad=True).sum().backward()
    except RuntimeError as error:
        return str(error)
    return ""
