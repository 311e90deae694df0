"""A run's folder: who may write it, what is in it, and its logs, which grow by whole rounds only."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from fedsep.core import FedSepError
from fedsep.files import TEMPORARY, write_all, write_file, writing

METRICS, LEDGER, CLIENTS, SUBMODELS = "metrics.jsonl", "ledger.jsonl", "clients.jsonl", "submodels.jsonl"
DELIVERY = "delivery.jsonl"
_LOGS = (METRICS, LEDGER, CLIENTS, SUBMODELS)
_LOCK = ".lock"
_SUMMARY = "summary.json"
_OURS = (
    _SUMMARY, *_LOGS, DELIVERY, "metrics.csv", "recipe.yaml", "environment.json", "partition.npz", "model.safetensors",
    f"{TEMPORARY}*", "checkpoint/*/*.safetensors", "checkpoint/*/checkpoint.json", f"checkpoint/*/{TEMPORARY}*",
    "clients/*.safetensors", "clients/*/*.safetensors", "reports/*.safetensors", "reports/*/*.safetensors",
)  # fmt: skip
"""All that a run writes, as patterns: nothing else is ever removed."""
_OUR_NAMES = {pattern.split("/")[0] for pattern in _OURS}
_strict = json.JSONEncoder(allow_nan=False)  # made once: a round writes two lines for every client


@dataclass
class RunFolder:
    """An open run folder: nobody else writes it until it is closed.

    Attributes:
        path: Where it is.
    """

    path: Path
    _lock: int
    _files: dict[str, int] = field(default_factory=dict[str, int])

    def append(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Adds lines to a log in one write; numbers that JSON does not have become null.

        Raises:
            CannotWrite: The disk is full; a line may then be cut off, which ``truncate`` mends.
        """
        data = "".join(map(_line, rows)).encode()
        if not data:
            return
        with writing(self.path / name):
            if name not in self._files:
                self._files[name] = os.open(self.path / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            write_all(self._files[name], data)

    def delivered(self, row: Mapping[str, Any]) -> None:
        """Adds to what bringing the run's model to sites took: after the run, so that no resumption cuts it.

        A line that a full disk cut off earlier is ended first.
        """
        file = self.path / DELIVERY
        if file.exists() and not file.read_bytes().endswith(b"\n"):
            with writing(file), file.open("ab") as torn:
                torn.write(b"\n")
        self.append(DELIVERY, [row])

    def offsets(self) -> dict[str, int]:
        """Bytes of each log that there is."""
        return {name: (self.path / name).stat().st_size for name in _LOGS if (self.path / name).exists()}

    def sync(self) -> None:
        """Waits until the disk has the logs."""
        for name, file in self._files.items():
            with writing(self.path / name):
                os.fsync(file)

    def truncate(self, offsets: Mapping[str, int]) -> None:
        """Cuts the logs back to earlier ``offsets``; one that is not named there is emptied.

        Raises:
            FedSepError: A log is shorter than it was.
        """
        sizes = self.offsets()
        for name in {**sizes, **offsets}:
            if sizes.get(name, 0) < offsets.get(name, 0):
                was = f"the checkpoint was made when it had {offsets[name]}"
                raise FedSepError(f"{self.path / name}: {sizes.get(name, 0)} bytes, but {was}")
            os.truncate(self.path / name, offsets.get(name, 0))

    def rows(self) -> list[dict[str, Any]]:
        """The rows of ``metrics.jsonl``."""
        path = self.path / METRICS
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []

    def write_table(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """``metrics.csv``: the rows with a column for every name, in the order in which names first appear."""
        names = dict.fromkeys(name for row in rows for name in row)
        lines = [names, *([_cell(row.get(name)) for name in names] for row in rows)]
        write_file(self.path / "metrics.csv", "".join(",".join(line) + "\n" for line in lines).encode())

    def write_recipe(self, recipe: Mapping[str, Any]) -> None:
        """``recipe.yaml``."""
        import yaml

        text = yaml.safe_dump(_without_tuples(recipe), sort_keys=False, allow_unicode=True)
        write_file(self.path / "recipe.yaml", text.encode())

    def write_partition(self, fleet: Any) -> None:
        """``partition.npz``, if the fleet has a partition that can be saved."""
        save = getattr(getattr(fleet, "partition", None), "save", None)
        if save is not None:
            unfinished = self.path / f"{TEMPORARY}partition.npz"
            with writing(self.path / "partition.npz"):
                save(unfinished)
                os.replace(unfinished, self.path / "partition.npz")

    def restrict(self) -> None:
        """Lets nobody but its owner look at the checkpoints, which hold a private run's secret."""
        path = self.path / "checkpoint"
        with writing(path):
            path.mkdir(exist_ok=True)
            path.chmod(0o700)

    def clear(self) -> None:
        """Removes what an earlier run wrote, and nothing else."""
        with writing(self.path):
            for found in _ours(self.path):
                found.unlink()
            for folder in sorted(self.path.glob("*/*/"), reverse=True) + sorted(self.path.glob("*/")):
                if folder.relative_to(self.path).parts[0] in ("checkpoint", "clients", "reports"):
                    with suppress(OSError):  # somebody else's file is in it
                        folder.rmdir()

    def close(self) -> None:
        """Closes the logs and lets others write the folder."""
        for file in (*self._files.values(), self._lock):
            os.close(file)
        self._files.clear()


def open_folder(path: Path, *, resume: bool, overwrite: bool) -> RunFolder:
    """Claims a run's folder, which is made if it is missing.

    Args:
        path: The folder.
        resume: It may hold a run, to go on from.
        overwrite: It may hold anything; what a run writes is removed first.

    Raises:
        FedSepError: It cannot be written, is in use, or holds something.
    """
    _refuse_full(path, resume, overwrite)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise FedSepError(f"{path}: the output folder cannot be written ({error.strerror})") from error
    try:
        _take(lock, path)
        folder = RunFolder(path, lock)
        if overwrite and not resume:
            folder.clear()
    except BaseException:
        os.close(lock)
        raise
    return folder


def _refuse_full(path: Path, resume: bool, overwrite: bool) -> None:
    try:
        names = {entry.name for entry in path.iterdir()} - {_LOCK}
    except OSError:  # missing, or a mistake that making it will tell
        return
    # A run that was killed at its very start may have left no more than an empty folder.
    run = any(name in _OUR_NAMES or name.startswith(TEMPORARY) for name in names)
    if not names or overwrite or (resume and run):
        return
    if resume:
        raise FedSepError(f"{path}: holds no run to resume, but {min(names)}")
    holds = _status(path) if run else "is not empty"
    raise FedSepError(f"{path}: the output folder {holds}; choose another folder, or overwrite it")


def _status(path: Path) -> str:
    try:
        status = json.loads((path / _SUMMARY).read_bytes())["status"]
    except (OSError, ValueError, KeyError):
        status = "unfinished"
    return "holds a finished run" if status == "done" else f"holds a run ({status}), which can be resumed"


def _ours(path: Path) -> Iterator[Path]:
    return (found for pattern in _OURS for found in path.glob(pattern) if found.is_file() or found.is_symlink())


def require_idle(path: Path) -> None:
    """Refuses a run's folder in which a process is at work.

    Raises:
        FedSepError: Another process is writing this run.
    """
    if not (path / _LOCK).exists():
        return
    lock = os.open(path / _LOCK, os.O_RDWR)
    try:
        _take(lock, path)
    finally:
        os.close(lock)


def _take(lock: int, path: Path) -> None:
    """A lock of the process, which goes with it however it ends; without locks (Windows) nothing is checked."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise FedSepError(f"{path}: another process is writing this run") from error


def _line(row: Mapping[str, Any]) -> str:
    try:
        return _strict.encode(row) + "\n"
    except ValueError:
        return _strict.encode(finite(row)) + "\n"


def finite(value: Any) -> Any:
    """The value with null for numbers that JSON does not have."""
    if isinstance(value, Mapping):
        return {name: finite(part) for name, part in cast(Mapping[str, Any], value).items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: object) -> str:
    missing = value is None or (isinstance(value, float) and not math.isfinite(value))
    return "" if missing else str(value)


def _without_tuples(value: Any) -> Any:
    """YAML's safe form has lists only."""
    if isinstance(value, Mapping):
        return {name: _without_tuples(part) for name, part in cast(Mapping[str, Any], value).items()}
    return [_without_tuples(part) for part in cast(list[Any], value)] if isinstance(value, list | tuple) else value
