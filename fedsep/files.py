"""Every write of a run: a file is there as a whole or not at all, and a full disk is a message, not a traceback."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedsep.errors import CannotWrite

TEMPORARY = ".tmp-"
"""How the names of unfinished files and folders begin: whatever bears it may be removed."""


@contextmanager
def writing(path: Path) -> Generator[None]:
    """Turns an error of the operating system into ``CannotWrite``, which names the file."""
    try:
        yield
    except OSError as error:
        raise CannotWrite(f"cannot write {path}: {error.strerror or error}") from error


def write_all(file: int, data: bytes) -> None:
    """Writes all of ``data``: a disk that fills up first writes less than it was asked to."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def write_file(path: Path, data: bytes, *, sync: bool = False) -> None:
    """Replaces ``path`` by ``data`` in one step.

    Args:
        path: The file; its folder exists.
        data: All of its contents.
        sync: Whether to wait until the disk has it, so that it also survives a power cut.

    Raises:
        CannotWrite: The disk is full, or the folder cannot be written; ``path`` is as it was.
    """
    unfinished = path.with_name(TEMPORARY + path.name)
    with writing(path):
        file = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o666)
        try:
            write_all(file, data)
            if sync:
                os.fsync(file)
        except BaseException:
            os.close(file)
            unfinished.unlink(missing_ok=True)
            raise
        os.close(file)
        os.replace(unfinished, path)


def write_json(path: Path, value: Any, *, sync: bool = False) -> None:
    """Replaces ``path`` by ``value`` as JSON, readable by people."""
    write_file(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode(), sync=sync)


def sync_folder(path: Path) -> None:
    """Waits until the disk has the names in a folder; a no-op where folders cannot be opened."""
    try:
        folder = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
