"""A partition as it is kept with a run: which sample of the source went to which client, hashed, drawable."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fedsep.core import FedSepError
from fedsep.data.parts import Parts

_PARTS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Partition:
    """Who holds what. Two partitions are the same if their hashes are.

    Attributes:
        train: Positions in the source's training set, by client; no sample is given twice.
        validation: Positions in the source's training set, by client.
        test: Positions by client in the source's test set, or in the source where the test set was held out of it.
        counts: Training samples by client and class, shape (clients, classes); one column for a regression.
        labels: Names of the classes, empty if they have none.
    """

    train: Parts
    validation: Parts
    test: Parts
    counts: npt.NDArray[np.int32]
    labels: tuple[str, ...] = field(default=())

    @property
    def clients(self) -> int:
        """Number of clients."""
        return len(self.train)

    @cached_property
    def hash(self) -> str:
        """SHA-256 in hexadecimal over the indices of all three parts."""
        digest = hashlib.sha256()
        for name in _PARTS:
            part: Parts = getattr(self, name)
            for array in (part.offsets, part.flat):
                digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path) -> None:
        """Writes an .npz file of plain arrays: ``<part>``, ``<part>_offsets``, ``counts``, ``labels``, ``hash``.

        Raises:
            FedSepError: The file cannot be written.
        """
        arrays: dict[str, npt.NDArray[np.generic]] = {"counts": self.counts, "hash": np.array(self.hash)}
        arrays["labels"] = np.array(self.labels, dtype=np.str_)
        for name in _PARTS:
            part: Parts = getattr(self, name)
            arrays |= {name: part.flat, f"{name}_offsets": part.offsets}
        path = Path(path)
        try:
            _write(path, arrays)
        except OSError as error:
            raise FedSepError(f"{path}: the partition cannot be written ({error.strerror or error})") from error

    @classmethod
    def load(cls, path: str | Path) -> Partition:
        """Reads what ``save`` wrote.

        Raises:
            FedSepError: The file is missing, corrupt, or its indices do not have the hash written beside them.
        """
        path = Path(path)
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                parts = {name: Parts(file[name], file[f"{name}_offsets"]) for name in _PARTS}
                found = cls(**parts, counts=file["counts"], labels=tuple(file["labels"].tolist()))
                written = str(file["hash"])
        except FileNotFoundError as error:
            raise FedSepError(f"{path}: there is no such partition file") from error
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise FedSepError(f"{path}: not a readable partition file ({error})") from error
        if found.hash != written:
            raise FedSepError(f"{path}: a damaged partition file: its indices do not have the hash written in it")
        return found

    def picture(self) -> str:
        """An SVG document: clients across, classes down, a dot or a shade for the number of samples.

        Text takes the colour of the page around it, so that it can be read in light and in dark mode.
        """
        from fedsep.data.picture import draw

        return draw(self)

    def describe(self) -> str:
        """One line: clients, sizes, classes per client."""
        sizes, held = self.train.sizes, (self.counts > 0).sum(axis=1)
        text = f"{self.clients:,} clients x {_span(int(sizes.min()), int(sizes.max()))} samples"
        if self.counts.shape[1] > 1:
            text += f", {_span(int(held.min()), int(held.max()))} of {self.counts.shape[1]} classes each"
        return text


def _span(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,}-{high:,}"


def _write(path: Path, arrays: dict[str, npt.NDArray[np.generic]]) -> None:
    """Atomically: a run that is killed leaves the old file or the new one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
