"""The sender's side of an arena that all workers read: what several of them are sent lies there once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Protocol

from torch import Tensor

from fedsep.engines import letters
from fedsep.engines.letters import Note
from fedsep.looking import Identity, identity
from fedsep.settle import host

_SMALLEST = 512


@dataclass
class Block:
    """A part of the arena that is in use; ``tensor`` stays alive with it, so that its identity stays its own."""

    offset: int
    size: int
    users: int = 1
    tensor: Tensor | None = None
    identity: Identity | None = None
    note: Note = b""


class Written(Protocol):
    """Where a store writes: an arena, or a parcel that another rank's arena gets."""

    def write(self, offset: int, tensor: Tensor) -> None:
        """A dense tensor's bytes at ``offset``."""
        ...

    def write_bytes(self, offset: int, data: bytes) -> None:
        """``data`` at ``offset``."""
        ...


class Store:
    """Writes letters into an arena, and takes their blocks back when they have been read.

    Blocks have sizes of powers of two and are used again, the last one freed first: the arena grows to what is
    under way at one time, and stays in the processor's cache.
    """

    def __init__(self, arena: Written) -> None:
        self._arena = arena
        self._free: defaultdict[int, list[int]] = defaultdict(list)
        self._end = 0
        self._serials = count()
        self._known: dict[Identity, Block] = {}
        self._noted: dict[Note, Block] = {}

    def write(self, values: Iterable[object]) -> tuple[int, int, list[Block]]:
        """Where the letter of ``values`` lies, its length, and the blocks that it and its tensors take.

        Raises:
            Exception: A value cannot be written; then no block is taken.
        """
        blocks: list[Block] = []
        try:
            letter = letters.write(values, partial(self._put, blocks))
        except Exception:
            self.release(blocks)
            raise
        block = self._take(len(letter))
        blocks.append(block)
        self._arena.write_bytes(block.offset, letter)
        return block.offset, len(letter), blocks

    def tensor(self, note: Note) -> Tensor:
        """The tensor that was written with this note; its block must be in use."""
        tensor = self._noted[note].tensor
        assert tensor is not None
        return tensor

    def release(self, blocks: list[Block]) -> None:
        """Gives one use of every block back."""
        for block in blocks:
            block.users -= 1
            if not block.users:
                self._free[block.size].append(block.offset)
                if block.identity is not None:
                    del self._known[block.identity], self._noted[block.note]

    def _put(self, blocks: list[Block], tensor: Tensor) -> Note:
        key = identity(tensor)
        block = self._known.get(key)
        if block is None:
            source = host(tensor)
            block = self._take(source.nbytes)
            blocks.append(block)
            self._arena.write(block.offset, source)
            block.note = letters.note(source, not tensor.is_cpu, block.offset, next(self._serials))
            block.tensor, block.identity = tensor, key
            self._known[key] = self._noted[block.note] = block
        else:
            block.users += 1
            blocks.append(block)
        return block.note

    def _take(self, size: int) -> Block:
        size = max(_SMALLEST, 1 << (size - 1).bit_length())
        free = self._free[size]
        if free:
            return Block(free.pop(), size)
        offset, self._end = self._end, self._end + size
        return Block(offset, size)
