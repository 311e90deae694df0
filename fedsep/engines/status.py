"""What a worker is at, in memory that outlives it: its parent reads it when the worker has died."""

from __future__ import annotations

import mmap
import struct

_TASK = struct.Struct("<q")
_STAGE = struct.Struct("<64p")  # one byte of length, 63 of text
_STAGE_PLACE = slice(_TASK.size, _TASK.size + _STAGE.size)

IDLE = -1
"""The number of no task."""


class Status:
    """A task's number and the stage it has come to."""

    def __init__(self) -> None:
        self._words = mmap.mmap(-1, _TASK.size + _STAGE.size)
        self._packed: dict[str, bytes] = {}
        self.rest()

    def begin(self, task: int) -> None:
        """Worker: says which task it is at."""
        self.stage("start")
        _TASK.pack_into(self._words, 0, task)

    def stage(self, name: str) -> None:
        """Worker: says which stage of it has begun."""
        packed = self._packed.get(name)
        if packed is None:
            packed = self._packed[name] = _STAGE.pack(name.encode()[: _STAGE.size - 1])
        self._words[_STAGE_PLACE] = packed

    def rest(self) -> None:
        """Worker: says that it is at none."""
        _TASK.pack_into(self._words, 0, IDLE)

    def read(self) -> tuple[int, str]:
        """The task (``IDLE``: none) and the stage that began last."""
        name: bytes = _STAGE.unpack_from(self._words, _TASK.size)[0]
        return _TASK.unpack_from(self._words, 0)[0], name.decode(errors="replace")

    def close(self) -> None:
        """Gives the memory back."""
        self._words.close()
