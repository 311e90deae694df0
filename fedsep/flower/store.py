"""What a site remembers of its clients, committed in two phases, on its own disk.

A client's memory is written under the round that made it, before the reply leaves: the reply may be lost, late or
refused. The next letter names the last round that the server accepted, and the client goes on from there, whatever else
lies beside it. Beside that stays what the server's last two checkpoints need, if it is killed and goes on from one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from fedsep import pack
from fedsep.core import FedSepError, Tree, stage
from fedsep.digest import STAGE
from fedsep.engines.engine import Recall
from fedsep.files import TEMPORARY, write_file, writing


class Kept(NamedTuple):
    """What a client remembers after a round, and what it had last reported by then."""

    memory: Tree
    report: Tree = None


class Remembering(Protocol):
    """Where a site keeps its clients' memories."""

    def recall(self, client: int, seen: int) -> Kept | None:
        """What the client remembers of the round ``seen``; None where it must enroll."""
        ...

    def put(self, client: int, round: int, kept: Kept) -> None:
        """Keeps what the client remembers after ``round``, until it is known whether its reply was accepted."""
        ...

    def settle(self, client: int, seen: int, checkpoints: Sequence[int]) -> None:
        """Drops what neither the last accepted round ``seen`` nor a checkpoint of so many rounds needs."""
        ...


@dataclass(frozen=True)
class OnSite:
    """In files of the site: ``<folder>/<client>/<round>.safetensors``."""

    folder: Path

    def recall(self, client: int, seen: int) -> Kept | None:
        """See ``Remembering``.

        Raises:
            FedSepError: The memory is gone or damaged; its stage has the server send everything the next time.
        """
        if seen < 0:
            return None
        path = self._path(client, seen)
        with stage(STAGE):
            try:
                return Kept(*pack.load(path.read_bytes()))
            except (OSError, FedSepError) as error:
                reason = getattr(error, "strerror", None) or error
                raise FedSepError(
                    f"{path}: the client's memory of round {seen + 1} cannot be read ({reason})"
                ) from error

    def put(self, client: int, round: int, kept: Kept) -> None:
        """See ``Remembering``.

        Raises:
            CannotWrite: The disk is full.
        """
        path = self._path(client, round)
        with writing(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, pack.dump(tuple(kept)))

    def settle(self, client: int, seen: int, checkpoints: Sequence[int]) -> None:
        """See ``Remembering``."""
        folder = self._path(client, 0).parent
        for path in folder.glob(f"{TEMPORARY}*"):
            path.unlink(missing_ok=True)
        there = sorted(int(path.stem) for path in folder.glob("*.safetensors"))
        for round in set(there) - wanted(there, seen, checkpoints):
            self._path(client, round).unlink(missing_ok=True)

    def _path(self, client: int, round: int) -> Path:
        return self.folder / str(client) / f"{round}.safetensors"


def wanted(rounds: Sequence[int], seen: int, checkpoints: Sequence[int]) -> set[int]:
    """Which of the rounds that a client remembers may still be asked for.

    Args:
        rounds: Those of its memories.
        seen: The last accepted one; later ones were lost, or belong to what a server that was killed did not save.
        checkpoints: Complete rounds in the server's checkpoints.
    """
    accepted = [round for round in rounds if round <= seen]
    needed = ([round for round in accepted if round < complete] for complete in checkpoints)
    return {seen, *(max(before) for before in needed if before)}


@dataclass(frozen=True)
class Borrowed:
    """With the run's own server, in the same process: it keeps memories as it does for every other engine.

    Attributes:
        run: The run's memories.
        fresh: What clients remember since their last reply, to be handed to the run with it.
    """

    run: Recall
    fresh: dict[int, Tree] = field(default_factory=dict[int, Tree])

    def recall(self, client: int, seen: int) -> Kept | None:
        """See ``Remembering``; reports come with the letter."""
        memory = self.run(client, seen)
        return None if memory is None else Kept(memory)

    def put(self, client: int, round: int, kept: Kept) -> None:
        """See ``Remembering``."""
        self.fresh[client] = kept.memory

    def settle(self, client: int, seen: int, checkpoints: Sequence[int]) -> None:
        """See ``Remembering``: the run sees to it."""
