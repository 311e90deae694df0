"""What ``fit`` was told to do, checked as a whole before anything is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from fedsep import serving
from fedsep.cohort import Cohort
from fedsep.core import Algorithm, FedSepError, Invitation, Task
from fedsep.engines.engine import Fleet
from fedsep.holding import cuts, unfit
from fedsep.options import Accept, Checkpoint, Evaluate, Stop, option_errors
from fedsep.pairs import findings
from fedsep.privacy.guarantee import mistakes as private_mistakes
from fedsep.ranges import Count, NonNegativeInt
from fedsep.round import Accepted, Memories
from fedsep.suited import mistakes


@dataclass(frozen=True)
class Plan:
    """The arguments of ``fit`` that say what is computed; see there."""

    algorithm: Algorithm[Any, Any]
    task: Task
    fleet: Fleet
    rounds: Count
    seed: NonNegativeInt
    cohort: Cohort
    evaluate: Evaluate
    checkpoint: Checkpoint
    stop: Stop
    states: Literal["memory", "disk"]
    name: str
    accept: Accept = Accept()

    def check(self) -> None:
        """Refuses what cannot be run.

        Raises:
            FedSepError: With every mistake.
        """
        clients = self.fleet.clients
        errors = [*self.cohort.errors(clients), *self._own_errors()]
        for name in ("evaluate", "checkpoint", "stop", "accept"):
            errors += option_errors(name, getattr(self, name))
        told = getattr(self.algorithm, "clients", None)
        if told not in (None, clients):
            errors.append(f"clients must be the federation's, {clients} (the method was given {told})")
        if not errors:  # with sizes or capabilities that cannot be, nothing can be said about it
            errors += serving.mistakes(self.fleet, self.evaluate) + self._unfit_widths()
            errors += mistakes(self.algorithm, self.task, self.fleet, self.cohort, self.evaluate, self.seed)
            errors += private_mistakes(self)
        errors += [found.text for found in findings(self.algorithm, self.task.init()) if found.fatal]
        unfit = getattr(getattr(self.algorithm, "view", None), "errors", None)
        errors += [] if unfit is None else unfit(self.cohort.capabilities)
        size = self.cohort.size(clients)
        if self.stop.min_replies > size:
            errors.append(f"stop.min_replies must be at most the cohort's size, {size} (got {self.stop.min_replies})")
        if self.evaluate.clients and not hasattr(self.algorithm, "local_models"):
            method = type(self.algorithm).__name__
            errors.append(f"evaluate.clients needs a method with local_models (got {method}, which has none)")
        if self.accept.norm is not None and not hasattr(self.algorithm, "read"):
            errors.append(f"accept.norm needs a method with read (got {type(self.algorithm).__name__}, which has none)")
        zoo = getattr(getattr(self.algorithm, "view", None), "zoo", None)
        if self.evaluate.clients and zoo is not None and len(zoo.levels) > 1:
            errors.append("evaluate.clients needs clients with the model of the recipe (got a zoo of several)")
        if errors:
            raise FedSepError("\n".join(errors))

    def members(self, round: int, state: Any) -> list[int]:
        """Who takes part in ``round`` (from 0): by the run's seed, or by a secret in the state of a private method."""
        ask = getattr(self.algorithm, "cohort_seed", None)
        seed = None if ask is None else ask(state)
        return self.cohort.members(self.seed if seed is None else seed, round, self.fleet.clients)

    def invite(self, round: int, members: Sequence[int], accepted: Accepted, memories: Memories) -> list[Invitation]:
        """The seats of ``members`` in ``round`` (from 0), with what the server knows of each."""
        which = torch.tensor(members, dtype=torch.int64, device="cpu")
        told = dict(zip(members, accepted.told[which].tolist(), strict=True))

        def report(client: int) -> Any:
            return memories.reports.recall(client, told[client])

        return self.cohort.invitations(self.seed, round, members, accepted.seen, report)

    def _unfit_widths(self) -> list[str]:
        """Why sub-models cannot be evaluated that no client may ever be sent."""
        view: Any = getattr(self.algorithm, "view", None)
        if not hasattr(view, "mistakes"):
            return []
        said = view.mistakes(self.cohort.capabilities)
        found = unfit(self.algorithm, sorted({*self.evaluate.served, *(self.evaluate.levels or ())}))
        if self.evaluate.held is not None and cuts(self.algorithm):
            found += view.mistakes([self.evaluate.held])
        return [f"evaluate: {text}" for text in dict.fromkeys(found) if text not in said]

    def _own_errors(self) -> list[str]:
        errors = [error.removeprefix("fit.") for error in option_errors("fit", self)]
        if self.seed >= 2**63:
            errors.append(f"seed must be < 2**63 (got {self.seed})")
        if not self.name or self.name in (".", "..") or set(self.name) & set("/\\\0"):
            errors.append(f"name must be usable as a folder's name (got {self.name!r})")
        return errors


def task_of(algorithm: Algorithm[Any, Any], task: Task) -> Task:
    """The local problem that a method solves: its own, or the one it is run on."""
    return getattr(algorithm, "task", None) or task
