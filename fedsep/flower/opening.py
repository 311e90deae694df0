"""How a run meets its sites: real ones call in, those in this process are made from the run's own data."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from fedsep.core import Algorithm, Task
from fedsep.engines.engine import Fleet, Recall
from fedsep.engines.flower import Flower
from fedsep.flower.local import LocalGrid
from fedsep.flower.post import Post
from fedsep.flower.roster import Roster
from fedsep.flower.session import FlowerSession
from fedsep.flower.site import Site
from fedsep.flower.store import Borrowed, OnSite, Remembering
from fedsep.tree import nbytes

_log = logging.getLogger("fedsep")


def over(engine: Flower, algorithm: Algorithm[Any, Any], task: Task, fleet: Fleet, threads: int) -> FlowerSession:
    """A session over the sites that Flower's grid connects.

    Raises:
        FedSepError: No site takes part.
    """
    roster = Roster(Post(engine.grid, engine.timeout), fleet.clients, engine.announcement, engine.wait)
    roster.gather()
    _warn_of_size(engine, nbytes(task.init()), roster)
    return FlowerSession(algorithm, task, fleet, roster, threads)


def _warn_of_size(engine: Flower, model: int, roster: Roster) -> None:
    """What is too large is refused before anybody could say so in the run."""
    most = max(len(member.samples) for member in roster.members.values())
    if model * most > engine.largest:
        _log.warning(
            "models of %d clients at one site take %s bytes, and a site's answer may have %s (engine.largest): a "
            "method that sends as much would fail there",
            most,
            f"{model * most:,}",
            f"{engine.largest:,}",
        )


def in_process(
    engine: Flower, algorithm: Algorithm[Any, Any], task: Task, fleet: Fleet, recall: Recall, threads: int
) -> FlowerSession:
    """A session over sites in this process."""
    borrowed = Borrowed(recall)
    sites: dict[int, Site] = {}
    nodes = min(engine.nodes, fleet.clients)
    for node in range(nodes):
        clients = tuple(range(node * fleet.clients // nodes, (node + 1) * fleet.clients // nodes))
        memories: Remembering = borrowed if engine.folder is None else OnSite(Path(engine.folder) / f"site{node}")
        sites[node + 1] = Site(f"site{node}", algorithm, task, fleet, clients, memories, frank=True)
    roster = Roster(Post(LocalGrid(sites), engine.timeout), fleet.clients, {}, engine.wait)
    roster.gather()
    together = engine.folder is None
    return FlowerSession(algorithm, task, fleet, roster, threads, borrowed.fresh, together)
