"""Memory that processes share: one file without a name that each of them maps, grown when something does not fit."""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
from typing import IO, Any

from torch import Tensor

_compare = (ctypes.CDLL(None) if os.name == "posix" else ctypes.cdll.msvcrt).memcmp
_compare.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]


class Arena:
    """Bytes at offsets, shared with every process forked after it was made; who writes where is for others to say.

    It takes memory only for pages that were written, and vanishes with the last process that has it.
    """

    def __init__(self) -> None:
        self._file = _nameless_file()
        self._mapping: mmap.mmap | None = None
        self._address = 0
        self._size = 0

    def write(self, offset: int, tensor: Tensor) -> None:
        """Copies a dense tensor's bytes to ``offset``.

        Raises:
            OSError: The system has no room for a larger file.
        """
        size = tensor.nbytes
        self._reach(offset + size)
        ctypes.memmove(self._address + offset, tensor.data_ptr(), size)

    def read(self, offset: int, into: Tensor) -> Tensor:
        """Fills a dense tensor with the bytes at ``offset``."""
        size = into.nbytes
        self._reach(offset + size)
        ctypes.memmove(into.data_ptr(), self._address + offset, size)
        return into

    def holds(self, offset: int, tensor: Tensor) -> bool:
        """Whether the bytes at ``offset`` are those of a dense tensor."""
        size = tensor.nbytes
        self._reach(offset + size)
        return _compare(self._address + offset, tensor.data_ptr(), size) == 0

    def write_bytes(self, offset: int, data: bytes) -> None:
        """Copies ``data`` to ``offset``."""
        self._reach(offset + len(data))
        ctypes.memmove(self._address + offset, data, len(data))

    def read_bytes(self, offset: int, length: int) -> bytes:
        """A copy of ``length`` bytes at ``offset``."""
        self._reach(offset + length)
        return ctypes.string_at(self._address + offset, length)

    def close(self) -> None:
        """Gives this process's part back; the arena must not be used any more."""
        if self._mapping is not None:
            self._mapping.close()
        self._mapping, self._size = None, 0
        self._file.close()

    def _reach(self, end: int) -> None:
        """Maps at least ``end`` bytes: another process may have grown the file, or it is grown here."""
        if end <= self._size:
            return
        size = os.fstat(self._file.fileno()).st_size
        if end > size:
            size = -(-max(end, 2 * size) // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
            os.ftruncate(self._file.fileno(), size)
        if self._mapping is not None:
            self._mapping.close()
        self._mapping = mmap.mmap(self._file.fileno(), size)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._mapping))
        self._size = size


def _nameless_file() -> IO[bytes] | Any:
    """A file in memory where there is such a thing: nothing is left behind however the processes end."""
    if hasattr(os, "memfd_create"):
        try:
            return os.fdopen(os.memfd_create("fedsep"), "r+b", buffering=0)
        except OSError:  # a sandbox without it
            pass
    return tempfile.TemporaryFile(buffering=0)
