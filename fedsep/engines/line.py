"""Messages between two ranks: a note in plain values, and bytes, over torch.distributed's gloo.

A thread reads, so that waiting for a message can be interrupted, and a rank that is gone is noticed at once.
"""

from __future__ import annotations

import ctypes
import pickle
import threading
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from queue import SimpleQueue
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

BYE = "bye"
"""What a rank says last."""

_FOR_EVER = timedelta(days=365)  # how long a rank has nothing to do is the run's affair


class News(NamedTuple):
    """A message, or, with ``lost``, why there will be no more from this rank."""

    rank: int
    note: tuple[Any, ...]
    body: Tensor
    lost: str = ""


class Line:
    """The connection to another rank; what it sends is put into ``news``, which several lines may share.

    A second thread writes: Ctrl-C never comes between two halves of a message.

    Args:
        group: Of torch.distributed; None: the default one.
        rank: The other's.
        news: Where messages go.
    """

    def __init__(self, group: Any, rank: int, news: SimpleQueue[News]) -> None:
        self.rank = rank
        self._group = group
        self._news = news
        self._outgoing: SimpleQueue[tuple[Tensor, Tensor] | None] = SimpleQueue()
        self._polite = False
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._read, self._write)]
        for thread in self._threads:
            thread.start()

    def send(self, note: tuple[Any, ...], parts: Sequence[Tensor | bytes] = ()) -> None:
        """Sends a message without waiting for it to arrive; ``parts`` are dense, and copied before this returns.

        That the other rank is gone is news, not an error here.
        """
        head = pickle.dumps(note, pickle.HIGHEST_PROTOCOL)
        content = _joined([head, *parts])
        self._outgoing.put((torch.tensor([len(head), content.numel()], device="cpu"), content))

    def close(self, seconds: float | None) -> bool:
        """Says good-bye and waits so long for the other's; whether all is over."""
        self.send((BYE,))
        self._outgoing.put(None)
        for thread in self._threads:
            thread.join(seconds)
        return not any(thread.is_alive() for thread in self._threads)

    def over(self) -> bool:
        """Waits for the other's end; whether it said good-bye."""
        self._threads[0].join()
        return self._polite

    def _read(self) -> None:
        try:
            while not self._polite:
                head, total = self._received(2, torch.int64).tolist()
                content = self._received(total, torch.uint8)
                note = pickle.loads(content[:head].numpy().tobytes())
                self._polite = note[0] == BYE
                self._news.put(News(self.rank, note, content[head:]))
        except Exception as error:  # whatever it is, nothing more can be read
            self._news.put(News(self.rank, (), torch.empty(0, device="cpu"), _reason(error)))

    def _write(self) -> None:
        with suppress(RuntimeError):  # the other rank is gone, which the reader tells
            while (message := self._outgoing.get()) is not None:
                for work in [dist.isend(tensor, self.rank, self._group) for tensor in message]:
                    assert work is not None
                    work.wait(_FOR_EVER)

    def _received(self, size: int, dtype: torch.dtype) -> Tensor:
        tensor = torch.empty(size, dtype=dtype, device="cpu")
        work = dist.irecv(tensor, self.rank, self._group)
        assert work is not None
        work.wait(_FOR_EVER)
        return tensor


def _joined(parts: Sequence[Tensor | bytes]) -> Tensor:
    sizes = [part.nbytes if isinstance(part, Tensor) else len(part) for part in parts]
    content = torch.empty(sum(sizes), dtype=torch.uint8, device="cpu")
    at = content.data_ptr()
    for part, size in zip(parts, sizes, strict=True):
        ctypes.memmove(at, part.data_ptr() if isinstance(part, Tensor) else part, size)
        at += size
    return content


def _reason(error: Exception) -> str:
    """The part of gloo's message that says something to a user."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return "its connection is closed" if "losed by peer" in text or "reset by peer" in text else text
