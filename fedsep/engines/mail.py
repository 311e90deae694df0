"""The other two ends: how a worker reads what it is sent and answers, and how its parent reads the answer."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from fedsep.engines import letters
from fedsep.engines.arena import Arena
from fedsep.engines.letters import Form, Note, Place
from fedsep.engines.store import Store
from fedsep.looking import Identity, identity
from fedsep.settle import ALIGNMENT, host, settled


class Inbox:
    """A worker's reading of its parent's arena: every tensor is copied, once for all letters that follow each other.

    What clients share is one tensor in their worker, too, and nothing a worker keeps is ever written over.
    """

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._before: dict[Note, Tensor] = {}
        self._now: dict[Note, Tensor] = {}
        self._notes: dict[Identity, Note] = {}

    def turn(self) -> None:
        """Begins another letter, and forgets what the last one did not use."""
        self._before, self._now, self._notes = self._now, {}, {}

    def read(self, offset: int, length: int) -> Iterator[Any]:
        """The values of the letter that lies there, one at a time.

        Raises:
            Exception: A value cannot be read; those after it are lost, too.
        """
        return letters.read(self._arena.read_bytes(offset, length), self._get)

    def note(self, tensor: Tensor) -> Note | None:
        """The note of a tensor that came with this letter and was not changed."""
        return self._notes.get(identity(tensor))

    def _get(self, note: Note) -> Tensor:
        tensor = self._now.get(note)
        if tensor is None:
            tensor = self._before.get(note)
            if tensor is None:
                form, offset = letters.opened(note)
                tensor = letters.placed(self._arena.read(offset, letters.blank(form)), form)
            self._now[note] = tensor
            self._notes[identity(tensor)] = note
        return tensor


class Outbox:
    """A worker's answer, written from the start of an arena that its parent has done with."""

    def __init__(self, arena: Arena, inbox: Inbox) -> None:
        self._arena = arena
        self._inbox = inbox
        self._end = 0

    def write(self, values: Iterable[object]) -> tuple[int, int]:
        """Writes the letter of ``values``, and says where it lies and how long it is.

        Raises:
            Exception: A value cannot be written.
        """
        letter = letters.write(values, self._put)
        offset = self._take(len(letter))
        self._arena.write_bytes(offset, letter)
        return offset, len(letter)

    @property
    def size(self) -> int:
        """Bytes from the start of the arena that the answer takes."""
        return self._end

    def _put(self, tensor: Tensor) -> Place:
        """Writes a tensor, unless the parent has it."""
        known = self._inbox.note(tensor)
        if known is not None:
            return "yours", known
        source = host(tensor)
        offset = self._take(source.nbytes)
        self._arena.write(offset, source)
        return letters.note(source, not tensor.is_cpu, offset, 0)

    def _take(self, size: int) -> int:
        offset = self._end
        self._end += -(-size // ALIGNMENT) * ALIGNMENT
        return offset


class Reader:
    """A parent's reading of its workers' answers, into tensors with memory of their own.

    What a worker was sent and gives back is the very tensor that was sent. A tensor that equals the one at the
    same place in the value before it becomes the same object: a memory that all clients share (an anchor) takes
    the space of one, however many clients there are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._latest: list[weakref.ref[Tensor]] = []
        self._place = 0

    def read(self, offset: int, length: int, arena: Arena) -> Iterator[Any]:
        """The values of the letter that lies there, one at a time.

        Raises:
            Exception: A value cannot be read; those after it are lost, too.
        """
        letter = arena.read_bytes(offset, length)
        self._place = 0
        for value in letters.read(letter, lambda note: self._get(*letters.opened(note), arena), self._own):
            yield value
            self._place = 0

    def _own(self, note: Note) -> Tensor:
        return settled(self._store.tensor(note))

    def _get(self, form: Form, offset: int, arena: Arena) -> Tensor:
        place, self._place = self._place, self._place + 1
        known = self._latest[place]() if place < len(self._latest) else None
        if known is not None and not letters.fits(known, form):
            known = None
        if known is not None and known.is_cpu and arena.holds(offset, known):
            return known
        tensor = letters.placed(arena.read(offset, letters.blank(form)), form)
        if known is not None and not known.is_cpu and torch.equal(_bits(known), _bits(tensor)):
            return known
        self._latest[place : place + 1] = [weakref.ref(tensor)]
        return tensor


def _bits(tensor: Tensor) -> Tensor:
    """The bytes of a tensor on its device: -0.0 and 0.0 are equal, and are not the same."""
    return tensor.contiguous().reshape(-1).view(torch.uint8)
