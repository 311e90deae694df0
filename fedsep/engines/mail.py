"""The other two ends: how a worker reads what it is sent and answers, and how its parent reads the answer."""

from __future__ import annotations

import weakref

from torch import Tensor

from fedsep.engines import letters
from fedsep.engines.arena import Arena
from fedsep.engines.letters import Form, Note
from fedsep.engines.settle import ALIGNMENT, dense


class Inbox:
    """A worker's reading of its parent's arena: every tensor is copied, once for all letters that follow each other.

    What clients share is one tensor in their worker, too, and nothing a worker keeps is ever written over.
    """

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._before: dict[Note, Tensor] = {}
        self._now: dict[Note, Tensor] = {}

    def turn(self) -> None:
        """Begins another letter, and forgets what the last one did not use."""
        self._before, self._now = self._now, {}

    def get(self, note: Note) -> Tensor:
        """The tensor of a note."""
        tensor = self._now.get(note)
        if tensor is None:
            tensor = self._before.get(note)
            if tensor is None:
                form, offset = letters.opened(note)
                tensor = self._arena.read(offset, letters.blank(form))
            self._now[note] = tensor
        return tensor


class Outbox:
    """A worker's answer, written from the start of an arena that its parent has done with."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._end = 0

    def put(self, tensor: Tensor) -> Note:
        """Writes a tensor."""
        source = dense(tensor)
        offset = self._take(source.nbytes)
        self._arena.write(offset, source)
        return letters.note(source, offset, 0)

    def write_bytes(self, data: bytes) -> int:
        """Writes bytes, and says where."""
        offset = self._take(len(data))
        self._arena.write_bytes(offset, data)
        return offset

    def _take(self, size: int) -> int:
        offset = self._end
        self._end += -(-size // ALIGNMENT) * ALIGNMENT
        return offset


class Reader:
    """A parent's reading of its workers' answers, into tensors with memory of their own.

    A tensor that equals the one at the same place in the answer before it becomes the same object: a memory that
    all clients share (an anchor) takes the space of one, however many clients there are.
    """

    def __init__(self) -> None:
        self._latest: list[weakref.ref[Tensor]] = []
        self._place = 0

    def read(self, letter: bytes, arena: Arena) -> object:
        """What the worker answered."""
        self._place = 0
        return letters.read(letter, lambda note: self._get(*letters.opened(note), arena))

    def _get(self, form: Form, offset: int, arena: Arena) -> Tensor:
        place, self._place = self._place, self._place + 1
        known = self._latest[place]() if place < len(self._latest) else None
        if known is not None and letters.fits(known, form) and arena.holds(offset, known):
            return known
        tensor = arena.read(offset, letters.blank(form))
        self._latest[place : place + 1] = [weakref.ref(tensor)]
        return tensor
