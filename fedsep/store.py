"""What clients remember, committed in two phases.

A client moves on when it has replied, but its reply may be lost or refused. So each memory is kept under the
round that made it, beside the one the server last accepted; the next invitation names that round (``seen``),
and the client goes on from there. Nothing has to be rolled back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from fedsep import pack, tree
from fedsep.core import FedSepError, Tree
from fedsep.files import TEMPORARY, write_file, writing

_BLANK = "blank.safetensors"  # the memory without tensors, one for all clients


class Store(Protocol):
    """The memories of a fleet, by client and round."""

    def recall(self, client: int, seen: int) -> Tree | None:
        """The client's memory after the round ``seen``; None for -1: it must enroll."""
        ...

    def put(self, client: int, round: int, memory: Tree, seen: int) -> None:
        """Keeps what the client remembers after ``round``, beside its memory after ``seen``; drops all others."""
        ...

    def snapshot(self, seen: Tensor) -> Tree:
        """What a checkpoint must hold to find each client's memory after its last accepted round."""
        ...

    def restore(self, snapshot: Tree, seen: Tensor, round: int) -> None:
        """Goes back to a checkpoint of ``round`` complete rounds."""
        ...

    def checkpointed(self, round: int) -> None:
        """A checkpoint of ``round`` complete rounds is on the disk: what only older ones need may go."""
        ...


def _lost(client: int, seen: int) -> FedSepError:
    return FedSepError(f"the memory that client {client} had after round {seen + 1} is gone")


@dataclass(frozen=True)
class InMemory:
    """Keeps memories in this process, and all of them in each checkpoint."""

    versions: dict[int, dict[int, Tree]] = field(default_factory=dict[int, dict[int, Tree]])

    def recall(self, client: int, seen: int) -> Tree | None:
        """See ``Store``."""
        if seen < 0:
            return None
        try:
            return self.versions[client][seen]
        except KeyError:
            raise _lost(client, seen) from None

    def put(self, client: int, round: int, memory: Tree, seen: int) -> None:
        """See ``Store``."""
        kept = {version: old for version, old in self.versions.get(client, {}).items() if version == seen}
        self.versions[client] = {**kept, round: memory}

    def snapshot(self, seen: Tensor) -> dict[int, Tree]:
        """See ``Store``."""
        return {client: self.recall(client, int(seen[client])) for client in sorted(self.versions) if seen[client] >= 0}

    def restore(self, snapshot: dict[int, Tree], seen: Tensor, round: int) -> None:
        """See ``Store``."""
        self.versions.clear()
        self.versions.update({client: {int(seen[client]): memory} for client, memory in snapshot.items()})

    def checkpointed(self, round: int) -> None:
        """See ``Store``: the checkpoint has its own copies."""


@dataclass
class OnDisk:
    """Keeps each memory in a file of its own, for fleets whose memories do not fit in this process.

    A memory without tensors costs no file: the first such memory that is met is stored once for all.
    The memories that the two latest checkpoints need stay until there are two later ones.

    Attributes:
        folder: Holds ``<client // 1000>/<client>.<round>.safetensors``.
    """

    folder: Path
    _versions: dict[int, tuple[int, ...]] = field(default_factory=dict[int, tuple[int, ...]])
    _blank: bytes = b""
    _round: int = 0  # complete rounds in the latest checkpoint
    _held: tuple[list[Path], list[Path]] = field(default_factory=lambda: ([], []))  # replaced before it, and since

    def recall(self, client: int, seen: int) -> Tree | None:
        """See ``Store``."""
        if seen < 0:
            return None
        if seen in self._versions.get(client, ()):
            return _read(self._path(client, seen))
        if not self._blank:
            raise _lost(client, seen)
        return pack.load(self._blank)

    def put(self, client: int, round: int, memory: Tree, seen: int) -> None:
        """See ``Store``.

        Raises:
            CannotWrite: The disk is full.
        """
        data = pack.dump(memory)
        before = self._versions.get(client, ())
        kept = tuple(version for version in before if version == seen)
        if any(isinstance(leaf, Tensor) for leaf in tree.leaves(memory)) or not self._is_blank(data):
            _write(self._path(client, round), data)
            kept = (*kept, round)
        for version in set(before).difference(kept):
            self._discard(client, version, refused=version > seen)
        self._versions[client] = kept

    def snapshot(self, seen: Tensor) -> dict[str, Tensor]:
        """See ``Store``: the files themselves are part of the checkpoint; this says which clients have none."""
        blank = [c for c, r in enumerate(seen.tolist()) if r >= 0 and r not in self._versions.get(c, ())]
        return {"blank": torch.tensor(blank, dtype=torch.int64)}

    def restore(self, snapshot: dict[str, Tensor], seen: Tensor, round: int) -> None:
        """See ``Store``.

        Raises:
            FedSepError: A file is missing, which is named with its client.
        """
        self._versions, self._held, self._round = {}, ([], []), round
        blank, accepted = self.folder / _BLANK, seen.tolist()
        self._blank = blank.read_bytes() if blank.exists() else b""
        for path, client, version in self._files():
            if version == accepted[client]:
                self._versions[client] = (version,)
            elif version >= round:
                path.unlink()
            else:
                self._held[0].append(path)
        self._check(set(snapshot["blank"].tolist()), accepted)

    def checkpointed(self, round: int) -> None:
        """See ``Store``."""
        for path in self._held[0]:
            path.unlink(missing_ok=True)
        self._held, self._round = (self._held[1], []), round

    def _check(self, blank: set[int], accepted: list[int]) -> None:
        """Refuses to go on without a file that the checkpoint needs."""
        found = blank | self._versions.keys()
        missing = {self._path(c, r): c for c, r in enumerate(accepted) if r >= 0 and c not in found}
        if blank and not self._blank:
            missing[self.folder / _BLANK] = min(blank)
        if missing:
            path, client = next(iter(missing.items()))
            more = f", and so are {len(missing) - 1} more" if len(missing) > 1 else ""
            raise FedSepError(f"{path}: this file is missing, which holds the memory of client {client}{more}")

    def _discard(self, client: int, version: int, *, refused: bool) -> None:
        path = self._path(client, version)
        if refused or version >= self._round:  # no checkpoint needs it
            path.unlink(missing_ok=True)
        else:
            self._held[1].append(path)

    def _path(self, client: int, version: int) -> Path:
        return self.folder / str(client // 1000) / f"{client}.{version}.safetensors"

    def _files(self) -> Iterator[tuple[Path, int, int]]:
        """All memories on the disk, with client and round; what a killed run left unfinished is removed."""
        for path in sorted(self.folder.glob("*/*.safetensors")):
            if path.name.startswith(TEMPORARY):
                path.unlink()
            else:
                client, version, _ = path.name.split(".")
                yield path, int(client), int(version)

    def _is_blank(self, data: bytes) -> bool:
        if not self._blank:
            _write(self.folder / _BLANK, data)
            self._blank = data
        return data == self._blank


def stored(folder: Path, client: int, version: int) -> Tree:
    """What ``OnDisk`` keeps of a client in a folder that is only read.

    Raises:
        FedSepError: It is missing or damaged.
    """
    path = folder / str(client // 1000) / f"{client}.{version}.safetensors"
    return _read(path if path.exists() else folder / _BLANK)


def _read(path: Path) -> Tree:
    try:
        return pack.load(path.read_bytes())
    except (OSError, FedSepError) as error:
        raise FedSepError(f"{path}: {error}") from error


def _write(path: Path, data: bytes) -> None:
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, data)
