"""Decoded data as memory-mapped .npy files in the user's cache, keyed by the contents of what they were read from.

A damaged cache is made again; where nothing can be written, things work without one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedsep.data.normalise import histogram
from fedsep.data.search import cache_root
from fedsep.data.source import Array, Source

_log = logging.getLogger(__name__)
_VERSION = 1
"""Of the decoders and of the format: a higher number makes all caches anew."""
_READ_ALL = 256 << 20
_HEAD = 1 << 16
_ARRAYS = ("x", "y", "x_test", "y_test", "histogram", "scaled")


def cached(name: str, files: Sequence[Path], options: Sequence[object], read: Callable[[], Source]) -> Source:
    """What ``read`` gives, from the cache if these files were read with these options before.

    Args:
        name: First part of the cache folder's name.
        files: Everything that ``read`` reads.
        options: Whatever else its result depends on; their repr is hashed.
        read: Reads and decodes.
    """
    root = cache_root()
    if root is None:
        return read()
    described = repr((_VERSION, [str(file.resolve()) for file in files], *options))
    stem = f"{re.sub('[^A-Za-z0-9_.-]+', '_', name)[:40]}-{hashlib.sha256(described.encode()).hexdigest()[:12]}"
    folder = root / "decoded" / f"{stem}-{_digest(files)[:16]}"
    found = _load(folder)
    if found is not None:
        return found
    _log.info("%s: decoding, once; the result is kept in %s", name, folder)
    source = read()
    if source.x.dtype == np.uint8:
        source = source._replace(histogram=histogram(source.x))
    try:
        _store(source, folder)
        _forget(folder.parent, stem, keep=folder.name)
    except OSError:
        return source
    return _load(folder) or source


def _digest(files: Sequence[Path]) -> str:
    """Of the files' contents; of names, sizes, times and beginnings where there is very much to read."""
    states = [file.stat() for file in files]
    whole = sum(state.st_size for state in states) <= _READ_ALL
    digest = hashlib.sha256()
    for file, state in zip(files, states, strict=True):
        digest.update(repr((state.st_size, None if whole else state.st_mtime_ns)).encode())
        with file.open("rb") as stream:
            digest.update(stream.read() if whole else stream.read(_HEAD))
    return digest.hexdigest()


def _crc(array: Array) -> int:
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data) if array.size else 0


def _load(folder: Path) -> Source | None:
    """A cached source with memory-mapped arrays; None if there is none, or it is damaged."""
    try:
        facts: dict[str, Any] = json.loads((folder / "source.json").read_text())
        arrays: dict[str, Array] = {}
        for name, crc in facts.pop("crc").items():
            arrays[name] = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            if _crc(arrays[name]) != crc:
                return None
        groups = {column: arrays.pop(f"group{i}") for i, column in enumerate(facts.pop("groups"))}
        facts["labels"] = tuple(facts["labels"])
        fields: dict[str, Any] = {**facts, **arrays}
        return Source(**fields, groups=groups)
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None


def _store(source: Source, folder: Path) -> None:
    """Written beside its place and then renamed: another process sees all of it or nothing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write(source, made)
        if folder.exists():
            shutil.rmtree(folder, ignore_errors=True)
        os.replace(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _write(source: Source, folder: Path) -> None:
    fields = source._asdict()
    arrays = {name: fields.pop(name) for name in _ARRAYS if isinstance(fields[name], np.ndarray)}
    arrays |= {f"group{i}": codes for i, codes in enumerate(source.groups.values())}
    facts = {name: value for name, value in fields.items() if value is not None}
    facts["groups"] = list(source.groups)
    facts["crc"] = {name: _crc(array) for name, array in arrays.items()}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    (folder / "source.json").write_text(json.dumps(facts))


def _forget(root: Path, stem: str, keep: str) -> None:
    """Deletes what was decoded from earlier contents of the same files."""
    for old in root.glob(f"{stem}-*"):
        if old.name != keep:
            shutil.rmtree(old, ignore_errors=True)
