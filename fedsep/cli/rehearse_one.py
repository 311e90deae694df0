"""A few rounds of a run whose memory is looked at: python -m fedsep.cli.rehearse_one JOB RESULT."""

from __future__ import annotations

import gc
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

import fedsep.cli.run  # noqa: F401 - a run has it all in memory  # pyright: ignore[reportUnusedImport]
from fedsep import tree
from fedsep.cli.job import answer
from fedsep.cli.rehearse import REMOTE
from fedsep.core import FedSepError
from fedsep.engines.engine import Engine
from fedsep.engines.sequential import sequential
from fedsep.engines.vectorised import Vectorised
from fedsep.engines.workers import Workers, usable_cores
from fedsep.memo import KEPT_BYTES, Memo
from fedsep.recipes import Sources, build, from_tree
from fedsep.report import write_report
from fedsep.store import InMemory
from fedsep.train import fit

ROUNDS = 3
"""Rounds that are played, or all if there are fewer: in the first, clients have no memory and may be sent nothing."""


def main(job_file: str, result_file: str) -> None:
    """Reads a job, plays it, and writes what of it grows."""
    answer(job_file, result_file, rehearsed)


def rehearsed(job: dict[str, Any]) -> dict[str, Any]:
    """Plays the first rounds of a run; how many, and what will grow, in bytes.

    Args:
        job: ``tree`` (the resolved recipe of one method), ``file``, ``allow``, ``method``, ``data_dir``.

    Raises:
        FedSepError: The method fails.
    """
    recipe = from_tree(job["tree"], job["file"], allow=job["allow"])
    sources = Sources(None if job["data_dir"] is None else Path(job["data_dir"]))
    experiment = build(recipe, recipe.seeds[0], sources, frozenset([job["method"]]))
    told, fleet = recipe.options(), experiment.federation
    engine = sequential() if recipe.engine.use in REMOTE else recipe.engine.build({})
    cohort, rounds, growth = told["cohort"].size(fleet.clients), min(ROUNDS, recipe.rounds), Growth()
    algorithm = experiment.algorithms[job["method"]]
    # What noise a private method adds goes by the size of its cohort, which it must find as it is.
    clients = cohort if getattr(algorithm, "privacy", None) is not None else min(cohort, _enough(engine))
    told["evaluate"] = replace(told["evaluate"], rounds=(rounds,))
    told["stop"] = replace(told["stop"], min_replies=1, seconds=None)
    told["cohort"] = replace(told["cohort"], per_round=clients, capabilities=(max(told["cohort"].capabilities),))
    with tempfile.TemporaryDirectory(prefix="fedsep-check-") as out:
        fit(algorithm, experiment.task, fleet, rounds=rounds, seed=experiment.seed,
            engine=engine, states=recipe.states, out=out, recipe=job["tree"],
            watch=lambda _: growth.look(), **told)  # fmt: skip
        with suppress(FedSepError):  # a run ends with a report, for which more of the library is loaded
            write_report(Path(out), Path(out))
    memories = growth.memories(fleet.clients, cohort / fleet.clients, recipe.rounds)
    return {"rounds": rounds, "clients": clients, "memories": memories,
            "remembered": growth.remembered(recipe.rounds / rounds)}  # fmt: skip


@dataclass
class Growth:
    """What a process held after its last round, of that which grows with rounds.

    Attributes:
        versions: Memories of clients, and how many clients they are of.
        clients: See there.
        each: Bytes of one memory that no other shares.
        memos: Bytes of what each function remembers.
    """

    versions: int = 0
    clients: int = 0
    each: int = 0
    memos: tuple[int, ...] = ()

    def look(self) -> None:
        """A round is over."""
        objects = gc.get_objects()
        stores = [thing.versions for thing in objects if type(thing) is InMemory and thing.versions]
        held = max(stores, key=_stored, default={})
        self.versions, self.clients = sum(map(len, held.values())), len(held)
        last = next(reversed(held), None)
        if last is not None:
            others = _stored({client: part for client, part in held.items() if client != last})
            self.each = (_stored(held) - others) // len(held[last])
        self.memos = tuple(thing.nbytes() for thing in objects if type(thing) is Memo)

    def memories(self, clients: int, share: float, rounds: int) -> int:
        """Bytes by which the clients' memories will have grown, and two copies of them in a checkpoint.

        Args:
            clients: Number of clients.
            share: Of them that takes part in a round.
            rounds: Of the whole run.
        """
        none = (1 - share) ** rounds
        once = 1 - none
        twice = once - rounds * share * (1 - share) ** (rounds - 1)
        more = max(0.0, clients * (once + twice) - self.versions) + 2 * max(0.0, clients * once - self.clients)
        return round(self.each * more)

    def remembered(self, times: float) -> int:
        """Bytes by which what functions remember will have grown, after ``times`` as many rounds."""
        return round(sum(max(0.0, min(KEPT_BYTES, size * times) - size) for size in self.memos))


def _stored(held: Any) -> int:
    """Bytes behind the tensors of a tree, each block once."""
    blocks = (leaf.untyped_storage() for leaf in _tensors(tree.leaves(held)))
    return sum({block.data_ptr(): block.nbytes() for block in blocks}.values())


def _tensors(leaves: Iterable[Any]) -> Iterable[Tensor]:
    return (leaf for leaf in leaves if isinstance(leaf, Tensor))


def _enough(engine: Engine) -> int:
    """Clients a round by which every process has work twice, or a whole chunk of them is stacked."""
    if isinstance(engine, Vectorised):
        return engine.chunk or 128
    return 2 * (engine.processes or usable_cores()) if isinstance(engine, Workers) else 2


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
