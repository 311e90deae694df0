"""Files that a process holds for as long as it lives: however it ends, the system lets go of them."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from fedsep.files import writing


@contextmanager
def holding(file: Path) -> Generator[bool]:
    """Inside, this process holds ``file``, which is made if need be; False if another one does.

    Raises:
        CannotWrite: The file cannot be made.
    """
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield _taken(handle)
    finally:
        os.close(handle)


def is_held(file: Path) -> bool:
    """Whether a process holds a file that is there."""
    handle = os.open(file, os.O_RDWR)
    try:
        return not _taken(handle)
    finally:
        os.close(handle)


def _taken(handle: int) -> bool:
    import fcntl  # where there is none, Flower's programs cannot be started either

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
