"""Real sites over Flower's network transport, or in this process to see what they would do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fedsep.core import Algorithm, Task
from fedsep.engines.engine import Fleet, Recall
from fedsep.flower.versions import lacking, require_flower
from fedsep.ranges import Count, NonNegative, Positive, checked

if TYPE_CHECKING:
    from fedsep.flower.session import FlowerSession

LARGEST = 1 << 30


@dataclass(frozen=True)
class Flower:
    """See ``flower``.

    Attributes:
        nodes: Sites in this process.
        timeout: Seconds.
        wait: Seconds.
        folder: Of the sites in this process.
        largest: Bytes.
        grid: Flower's, where the sites are real; None: they are in this process.
        announcement: What a real site must know: the run, the recipe as text, the method, the seed.
    """

    nodes: int = 2
    timeout: float = 600.0
    wait: float = 300.0
    folder: str | Path | None = None
    largest: int = LARGEST
    grid: Any = field(default=None, repr=False, compare=False)
    announcement: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)

    def open(self, algorithm: Algorithm[Any, Any], task: Task, fleet: Fleet, recall: Recall) -> FlowerSession:
        """Waits for the sites, and uses one intra-op thread until the session is closed.

        Raises:
            FedSepError: Flower is not installed or of another release, or no site takes part.
        """
        require_flower()
        from fedsep.flower.opening import in_process, over

        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            if self.grid is not None:
                return over(self, algorithm, task, fleet, threads)
            return in_process(self, algorithm, task, fleet, recall, threads)
        except BaseException:
            torch.set_num_threads(threads)
            raise


@checked
def flower(
    *,
    nodes: Count = 2,
    timeout: Positive = 600.0,
    wait: NonNegative = 300.0,
    folder: str | Path | None = None,
    largest: Count = LARGEST,
) -> Flower:
    """Runs clients at sites, one letter to a site and round however many it has, with the same bits as ``sequential``.

    In a run of ``fedsep flower server`` the sites are real. Elsewhere they are in this process, with Flower's messages
    between them and the server: what crosses is what would cross, and its size is in the ledger (``serialised``).

    Args:
        nodes: Number of sites in this process; each has a consecutive part of the clients.
        timeout: Seconds that a site's answer is waited for; its clients have failed then. An answer that comes later is
            discarded and counted.
        wait: Seconds that are given to sites to call before the first round. The run begins as soon as every client has
            a site, or with those that are there. A round for which no site is left waits as long for one, and the model
            that the run ends with as long for sites that took part (and for the answers of those that have been sent
            it, ``timeout`` seconds at most).
        folder: Where sites in this process keep their clients' memories, as real ones do on their disks. None: the run
            keeps them as it does for other engines, so that it can be resumed from its own folder alone.
        largest: Bytes that a real site may send in answer to one letter, for all of its clients; more is refused while
            it comes in. The server holds this much of each site at most.

    Raises:
        FedSepError: An argument is out of range.
    """
    return Flower(nodes, timeout, wait, folder, largest)


def unusable() -> str:
    """Why Flower cannot be used here; empty if it can."""
    return lacking()
