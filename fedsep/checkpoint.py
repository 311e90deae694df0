"""Checkpoints: safetensors and JSON, each written beside the last and put in place by one rename.

The two latest stay. A run that is killed, or a disk that fills up, in the middle of one leaves the others whole.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fedsep import pack
from fedsep.core import FedSepError, Tree
from fedsep.errors import RunFailed
from fedsep.files import TEMPORARY, sync_folder, write_file, writing

FORMAT = 1
_FACTS = "checkpoint.json"
_PREFIX = "round-"
_GENERATIONS = 2
_log = logging.getLogger("fedsep")


class Saved(NamedTuple):
    """A checkpoint: trees by name, and facts that are JSON."""

    round: int
    trees: dict[str, Tree]
    facts: dict[str, Any]


def save(folder: Path, saved: Saved) -> None:
    """Writes a checkpoint; afterwards the two latest are left.

    Raises:
        CannotWrite: The disk is full; the checkpoints that were there are as they were.
    """
    target = folder / f"{_PREFIX}{saved.round:08d}"
    unfinished = folder / f"{TEMPORARY}{target.name}"
    with writing(target):
        _remove(unfinished)
        unfinished.mkdir(parents=True)
        try:
            _write(unfinished, saved)
            _remove(target)
            os.replace(unfinished, target)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        sync_folder(folder)
        for old in _generations(folder)[_GENERATIONS:]:
            _remove(old)


def load(folder: Path) -> Saved | None:
    """The latest checkpoint that is whole; None if there never was one.

    A damaged one is named in the log (``fedsep``, warning) and removed once an older one has been read.

    Raises:
        RunFailed: There are checkpoints, and none of them is whole.
        FedSepError: This program cannot read them.
    """
    damaged: dict[Path, str] = {}
    for generation in _generations(folder):
        try:
            saved = _read(generation)
        except pack.Damaged as error:
            damaged[generation] = str(error)
            continue
        for path, reason in damaged.items():
            _log.warning("%s; going on from the checkpoint of round %d", reason, saved.round)
            _remove(path)
        return saved
    if damaged:
        anew = f"remove {folder.parent}, this run's folder, and resuming starts it anew"
        raise RunFailed("; ".join(damaged.values()) + f": no checkpoint is whole; {anew}")
    return None


def _write(folder: Path, saved: Saved) -> None:
    digests: dict[str, str] = {}
    for name, part in saved.trees.items():
        data = pack.dump(part)
        write_file(folder / f"{name}.safetensors", data, sync=True)
        digests[name] = hashlib.sha256(data).hexdigest()
    content = {"format": FORMAT, "round": saved.round, "files": digests, **saved.facts}
    facts = {"sha256": _digest(content), "content": content}
    write_file(folder / _FACTS, json.dumps(facts, indent=1).encode(), sync=True)
    sync_folder(folder)


def _read(folder: Path) -> Saved:
    path = folder / _FACTS
    try:
        facts = json.loads(_bytes(path))
        content = facts["content"]
        whole = facts["sha256"] == _digest(content)
    except (ValueError, KeyError, TypeError) as error:
        raise pack.Damaged(f"{path}: damaged ({type(error).__name__}: {error})") from error
    if not whole:
        raise pack.Damaged(f"{path}: damaged (its digest is another)")
    if content["format"] != FORMAT:
        raise FedSepError(f"{path}: written by another version of fedsep (format {content['format']}, not {FORMAT})")
    files = content["files"]
    trees = {name: _read_tree(folder / f"{name}.safetensors", digest) for name, digest in files.items()}
    return Saved(content["round"], trees, content)


def _read_tree(path: Path, digest: str) -> Tree:
    data = _bytes(path)
    if hashlib.sha256(data).hexdigest() != digest:
        raise pack.Damaged(f"{path}: damaged (its digest is another)")
    try:
        return pack.load(data)
    except FedSepError as error:
        raise type(error)(f"{path}: {error}") from error


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise pack.Damaged(f"{path}: missing") from error
    except OSError as error:
        raise FedSepError(f"{path}: {error.strerror}") from error


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _generations(folder: Path) -> list[Path]:
    """The checkpoints, the latest first."""
    return sorted(folder.glob(f"{_PREFIX}*"), reverse=True)


def _remove(generation: Path) -> None:
    if generation.exists():
        shutil.rmtree(generation)
