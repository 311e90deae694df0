"""Picks an engine for a run by stated rules, among those that give the same bits."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from fedsep import tree
from fedsep.core import Algorithm, Params, Task
from fedsep.engines.engine import Engine, Fleet, Recall, Session
from fedsep.engines.ranks import place
from fedsep.engines.room import COPIES, free_memory
from fedsep.engines.sequential import sequential
from fedsep.engines.torchrun import torchrun
from fedsep.engines.vectorised import apart, vectorised
from fedsep.engines.workers import unusable, usable_cores, workers
from fedsep.ranges import checked

SMALL, TOGETHER = 20_000, 32
"""Parameters up to which, and clients from which, stacked clients are faster on one core than one after the other.

Of networks of 5,000 parameters 32 clients took 0.7 of the time, and 100 clients 0.4; of those of 40,000 as long as
one after the other, of 100,000 longer; and 10 clients took longer in any case.
"""

_FACTORIES = {"sequential": sequential, "workers": workers, "torchrun": torchrun, "vectorised": vectorised}
_log = logging.getLogger("fedsep")


@dataclass(frozen=True)
class Choice:
    """An engine, with the arguments that are not its defaults, and why it was picked."""

    engine: str
    reason: str
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def build(self) -> Engine:
        """The engine."""
        return _FACTORIES[self.engine](**self.arguments)

    def record(self) -> dict[str, Any]:
        """As JSON; ``Choice(**record)`` gives it back."""
        return {"engine": self.engine, "reason": self.reason, "arguments": dict(self.arguments)}

    def __str__(self) -> str:
        told = ", ".join(f"{name}={value}" for name, value in self.arguments.items())
        return f"{self.engine}{f'({told})' if told else ''}: {self.reason}"


class Facts(NamedTuple):
    """What the choice depends on.

    Attributes:
        ranks: Processes that torchrun started; 1 without it.
        device: Kind of the device that is computed on: ``cpu``, ``cuda``, ``mps``.
        cores: That may be used.
        memory: Bytes that are free; None if that cannot be told.
        no_fork: Why processes cannot be forked here; empty if they can.
        cohort: Clients in a round.
        parameters: Of the model.
        model_bytes: That they take.
        convolutional: Whether the model has convolutions.
        apart: Why the method's local steps cannot be stacked; empty if they can.
    """

    ranks: int
    device: str
    cores: int
    memory: int | None
    no_fork: str
    cohort: int
    parameters: int
    model_bytes: int
    convolutional: bool
    apart: str


@dataclass(frozen=True)
class Auto:
    """See ``auto``."""

    exact: bool = True

    def choose(self, algorithm: Algorithm[Any, Any], task: Task, fleet: Fleet, cohort: int) -> Choice:
        """The engine for a run here."""
        return choose(facts(algorithm, task.init(), min(cohort, fleet.clients)), exact=self.exact)

    def open(self, algorithm: Algorithm[Any, Any], task: Task, fleet: Fleet, recall: Recall) -> Session:
        """Opens the engine that is picked if all clients take part; ``fit`` picks with the cohort's size."""
        return self.choose(algorithm, task, fleet, fleet.clients).build().open(algorithm, task, fleet, recall)

    def follow(self, algorithm: Algorithm[Any, Any], task: Task, fleet: Fleet) -> Any:
        """Under torchrun, as its engine: that is what is picked there."""
        return torchrun().follow(algorithm, task, fleet) if _ranks() > 1 else None

    def share(self, result: Any) -> None:
        """As ``torchrun``."""
        torchrun().share(result)


@checked
def auto(*, exact: bool = True) -> Auto:
    """Picks an engine when a run begins, says which and why, and records it; a run that is resumed keeps it.

    The first of these rules that applies decides. The engines of all of them give the same bits, except for
    ``vectorised``, whose results differ by rounding: it is picked only where ``exact`` is false.

    1. torchrun started several processes: ``torchrun``.
    2. ``exact`` is false, and the method's local steps can be stacked: ``vectorised``, on a GPU, for two clients in a
       round or more; on a CPU where rule 4 or 5 applies, for 32 clients or more and models without convolutions of
       up to 20,000 parameters.
    3. A GPU is computed on: ``sequential``.
    4. Processes cannot be forked here, one core may be used, or one client takes part in a round: ``sequential``.
    5. There is no memory for two processes with five models each: ``sequential``.
    6. Otherwise ``workers``, with as many processes as there are cores, clients in a round, and memory for.

    Args:
        exact: Whether only engines with the bits of ``sequential`` are picked.

    Raises:
        FedSepError: An argument is out of range.
    """
    return Auto(exact)


def choose(here: Facts, *, exact: bool = True) -> Choice:
    """The rules of ``auto``."""
    if here.ranks > 1:
        return Choice("torchrun", f"torchrun started {here.ranks} processes")
    reason = _one_by_one(here)
    if not exact and not here.apart and here.device != "cpu" and here.cohort > 1:
        return Choice("vectorised", f"{here.cohort} clients fill {here.device} better together")
    if not exact and not here.apart and here.device == "cpu" and reason and _tiny(here):
        return Choice("vectorised", f"{reason}, and steps of {here.parameters:,} parameters are quicker stacked")
    if reason:
        return Choice("sequential", reason)
    processes = min(here.cores, here.cohort, _room(here))
    return Choice("workers", f"{here.cores} cores, {here.cohort} clients in a round", {"processes": processes})


def _tiny(here: Facts) -> bool:
    return here.cohort >= TOGETHER and here.parameters <= SMALL and not here.convolutional


def _one_by_one(here: Facts) -> str:
    """Why several processes are of no use; empty if they are."""
    if here.device != "cpu":
        return f"clients share one {here.device} device"
    if here.no_fork:
        return here.no_fork
    if here.cores == 1:
        return "one core may be used"
    if here.cohort == 1:
        return "one client takes part in a round"
    return "" if _room(here) > 1 else "there is no memory for several models of this size"


def _room(here: Facts) -> int:
    """For how many processes there is memory."""
    if here.memory is None:
        return here.cores
    return here.memory // max(1, COPIES * here.model_bytes)


def facts(algorithm: object, params: Params, cohort: int) -> Facts:
    """What the choice depends on, here and now."""
    return Facts(
        ranks=_ranks(),
        device=torch.get_default_device().type,
        cores=usable_cores(),
        memory=free_memory(),
        no_fork=unusable(),
        cohort=cohort,
        parameters=tree.size(params),
        model_bytes=tree.nbytes(params),
        convolutional=any(part.ndim > 2 for part in params.values()),
        apart=apart(algorithm),
    )


def decide(
    engine: Any, algorithm: Algorithm[Any, Any], task: Task, fleet: Fleet, cohort: int, kept: Mapping[str, Any] | None
) -> Choice | None:
    """What ``auto`` picks for a run, and says; None for an engine that was named.

    Args:
        engine: As the user gave it, without faults.
        algorithm: The method.
        task: The local problem.
        fleet: The clients.
        cohort: Clients in a round.
        kept: The record of what was picked when the run began.
    """
    if not isinstance(engine, Auto):
        return None
    now = engine.choose(algorithm, task, fleet, cohort)
    choice = now if kept is None else _kept(Choice(**kept), now)
    _log.info("auto %s %s", "picks" if choice is now else "keeps", choice)
    return choice


def _kept(before: Choice, now: Choice) -> Choice:
    """What a resumed run had, where that can be used here; among those of the same bits another will do."""
    if before.engine == "vectorised":
        return before
    if "torchrun" in (before.engine, now.engine) or (before.engine == "workers" and unusable()):
        return now
    return before


def _ranks() -> int:
    found = place()
    return found.ranks if found else 1
