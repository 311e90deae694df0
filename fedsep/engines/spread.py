"""A session whose clients run in other processes: the server's side of it, and what those processes do."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from fedsep import random
from fedsep.core import Algorithm, Ctx, Failure, FedSepError, Invitation, Params, Task
from fedsep.engines.client import PREDICT_ROWS, Job, Result, Sending, delivered, plain, predict, run, run_local
from fedsep.engines.engine import Delivered, Fleet, Local, Recall, Split
from fedsep.engines.lost import Lost
from fedsep.engines.work import AHEAD


class Hands(Protocol):
    """Processes that do calls."""

    def map(self, kind: str, calls: Iterable[object], order: Sequence[int]) -> Generator[Any, None, None]:
        """The outcome of every call, place by place; ``Lost`` for those that gave nothing.

        Args:
            kind: A name for calls that take about the same time.
            calls: Made on demand, in the order in which they are begun; None where there is nothing to do.
            order: The place of each call among the outcomes.
        """
        ...

    def close(self) -> None:
        """Lets the processes go."""
        ...


@dataclass(frozen=True)
class Clients:
    """A client's part, as it is done elsewhere: from plain tuples to plain tuples, which are quick to write."""

    algorithm: Algorithm[Any, Any]
    task: Task
    fleet: Fleet

    def __call__(self, call: tuple[Any, ...]) -> Any:
        """What comes of a call; ``Lost`` instead of a failure."""
        kind, *rest = call
        if kind == "predict":
            params, split, start, stop = rest
            return predict(self.task, params, getattr(self.fleet, split), start, stop)
        client, round, capability, key, known, payload, memory = rest
        ctx = Ctx(round, capability, random.as_key(key), *known)
        job = Job(Invitation(client, ctx), payload, memory)
        outcome = self._round(job) if kind == "round" else run_local(self.algorithm, self.task, job, self.fleet)
        return Lost(outcome.stage, outcome.reason, outcome.traceback) if isinstance(outcome, Failure) else outcome

    def _round(self, job: Job) -> tuple[Any, ...] | Failure:
        result = run(self.algorithm, job, self.fleet)
        return result if isinstance(result, Failure) else tuple(result._replace(info=plain(result.info)))


def in_words(call: tuple[Any, ...]) -> str:
    """Whose part a call is."""
    kind, whose, *_ = call
    return "the evaluation" if kind == "predict" else f"client {whose}"


def costly_first(cohort: Sequence[Invitation], fleet: Fleet, ahead: int) -> list[int]:
    """Places of a cohort in the order in which clients are begun: the last ones are cheap, and nobody waits long.

    A client's cost is taken to be its examples times the square of its capability, as the multiply-adds of a sub-model
    are; a rough guess is enough for an order. Clients of one cost are begun in their order. Only so many neighbours
    are put in order among themselves, since outcomes are told in the cohort's order and have to wait for it.

    Args:
        cohort: The invitations.
        fleet: May know how many examples clients have.
        ahead: How many neighbours.
    """
    sizes = getattr(fleet, "sizes", None)

    def cost(place: int) -> float:
        client, ctx = cohort[place]
        return ctx.capability**2 * (1 if sizes is None else int(sizes[client]))

    places = range(len(cohort))
    starts = range(len(cohort) % ahead - ahead, len(cohort), ahead)  # the last block is full: what is begun last counts
    blocks = (places[max(start, 0) : start + ahead] for start in starts)
    return [place for block in blocks for place in sorted(block, key=cost, reverse=True)]


@dataclass(frozen=True)
class SpreadSession:
    """What the server does while ``hands`` do the clients' part.

    Attributes:
        processes: How many work at a time.
        threads: Intra-op threads of this process when the session is closed.
    """

    algorithm: Algorithm[Any, Any]
    task: Task
    fleet: Fleet
    recall: Recall
    hands: Hands
    processes: int
    threads: int

    def round(self, state: Any, cohort: Sequence[Invitation]) -> Iterator[Delivered | Failure]:
        """Runs the cohort."""
        for job, result in self._run("round", state, cohort):
            yield result if isinstance(result, Failure) else delivered(job, Result(*result))

    def local(self, state: Any, cohort: Sequence[Invitation]) -> Iterator[Local | Failure]:
        """Each client's metrics before and after its local steps."""
        for _, result in self._run("local", state, cohort):
            yield result

    def predict(self, params: Params, split: Split) -> Tensor:
        """The model's outputs on one of the server's sets."""
        size = getattr(self.fleet, split).size
        rows = PREDICT_ROWS * max(1, math.ceil(size / PREDICT_ROWS / (4 * self.processes)))
        parts = [(start, min(start + rows, size)) for start in range(0, size, rows)]
        calls = (("predict", params, split, *part) for part in parts)
        with closing(self.hands.map("predict", calls, range(len(parts)))) as outcomes:
            pairs = zip(outcomes, parts, strict=True)
            return torch.cat([self._outputs(outcome, params, split, part) for outcome, part in pairs])

    def close(self) -> None:
        """Lets the processes go, and sets the number of threads back."""
        self.hands.close()
        torch.set_num_threads(self.threads)

    def _run(self, kind: str, state: Any, cohort: Sequence[Invitation]) -> Iterator[tuple[Any, Any]]:
        """Every job with its outcome, in the order of the cohort; costly ones are begun first."""
        order = costly_first(cohort, self.fleet, AHEAD * self.processes)
        jobs: dict[int, Job | Failure] = {}
        sending = Sending(self.algorithm, state, self.recall, settle=lambda tree: tree)

        def calls() -> Iterator[tuple[Any, ...] | None]:
            for place in order:
                job = sending.job(cohort[place])
                if isinstance(job, Failure):
                    jobs[place] = job
                    yield None
                else:
                    jobs[place] = job._replace(payload={}, memory=None)  # what crosses is kept until it is answered
                    client, (round, capability, key, *known) = job.invitation
                    yield kind, client, round, capability, key.item(), known, job.payload, job.memory

        with closing(self.hands.map(kind, calls(), order)) as outcomes:
            for place, outcome in enumerate(outcomes):
                job = jobs.pop(place)
                if isinstance(job, Failure):
                    yield None, job
                else:
                    yield job, Failure(*job.invitation, *outcome, job.sent) if isinstance(outcome, Lost) else outcome

    def _outputs(self, outcome: Tensor | Lost, params: Params, split: Split, part: tuple[int, int]) -> Tensor:
        if not isinstance(outcome, Lost):
            return outcome
        if not outcome.traceback:
            raise FedSepError(f"the model could not be evaluated on the {split} set: {outcome.reason}")
        return predict(self.task, params, getattr(self.fleet, split), *part)  # here, the error is the user's own
