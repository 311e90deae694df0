"""The engine's side of a round over real sites: one letter to each site, one outcome for each client."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fedsep.core import ASTRAY, Algorithm, Failure, Invitation, Params, Reply, Task, Tree
from fedsep.engines.client import Job, Sending, predict
from fedsep.engines.engine import Delivered, Fleet, Local, Split
from fedsep.flower.answers import absent, failure, is_metrics, is_reply, latecomers, own_blocks, part_of, share
from fedsep.flower.evaluating import columns, needs_statistics, with_moments
from fedsep.flower.handing import Handing, handed_out
from fedsep.flower.post import Answer, Sent
from fedsep.flower.roster import Roster
from fedsep.settle import settled

_log = logging.getLogger("fedsep")

_GENERATIONS = 2  # checkpoints that a run keeps
_NOTHING: Mapping[int, Any] = MappingProxyType({})


class _Asked(NamedTuple):
    """A client's job, or why there is none, with its site's answer and its share of both letters in bytes."""

    job: Job | Failure
    answer: Answer = Answer({})
    shares: tuple[int, int] = (0, 0)


@dataclass
class FlowerSession:
    """A run over sites; what the server does is done here.

    Attributes:
        algorithm: The method.
        task: The local problem.
        fleet: What the server has of data: its test set, if any.
        roster: The sites.
        threads: Of torch before the run.
        fresh: What clients remember, where they are in this process.
        together: Whether they are.
        checkpoints: Complete rounds in the run's latest ones.
    """

    algorithm: Algorithm[Any, Any]
    task: Task
    fleet: Fleet
    roster: Roster
    threads: int
    fresh: dict[int, Tree] = field(default_factory=dict[int, Tree])
    together: bool = False
    checkpoints: list[int] = field(default_factory=list[int])

    def round(self, state: Any, cohort: Sequence[Invitation]) -> Iterator[Delivered | Failure]:
        """Runs the cohort at its sites; first come what is left of earlier rounds: answers that are too late."""
        for sent, answer in self.roster.post.late():
            yield from latecomers(sent, answer)
        for job, answer, shares in self._asked("round", state, cohort):
            if isinstance(job, Failure):
                yield job
                continue
            given = part_of(answer, job.invitation.client)
            if not is_reply(given):
                yield failure(job, given, shares)
                continue
            client, ctx = job.invitation
            samples = self.roster.samples(client)  # told once, when the site called
            reply = Reply(client, ctx, given["payload"], samples, job.sent, given["info"], serialised=shares)
            yield Delivered(reply, self.fresh.pop(client, ()))

    def local(self, state: Any, cohort: Sequence[Invitation]) -> Iterator[Local | Failure]:
        """Each client's metrics before and after its local steps, at its site."""
        for job, answer, _ in self._asked("local", state, cohort):
            if isinstance(job, Failure):
                yield job
                continue
            given = part_of(answer, job.invitation.client)
            metrics = [given.get(when) for when in ("before", "after")]
            if all(map(is_metrics, metrics)):
                yield Local(job.invitation.client, *metrics)  # type: ignore[arg-type]
            else:
                yield failure(job, given)

    def predict(self, params: Params, split: Split) -> Tensor:
        """The model's outputs on one of the server's sets, here."""
        return predict(self.task, settled(params), getattr(self.fleet, split))

    def evaluate(self, params: Params, calibration: int | None, name: str = "") -> dict[str, float]:
        """Metrics of a model at all sites that are connected, with what that took in bytes.

        Args:
            params: Of the model.
            calibration: Training examples of all clients together, on which statistics of static batch normalisation
                are measured, where the model has any; None: every batch has its own.
            name: Put before the names of metrics.

        Returns:
            ``test_accuracy`` and the like, ``evaluated_clients``, and ``evaluation_bytes_down`` and ``_up``.
        """
        params, down, up = settled(params), 0, 0
        if calibration is not None and needs_statistics(self.task):
            each = max(2, -(-calibration // max(1, self.fleet.clients)))
            told, down, up = self._everywhere({"kind": "statistics", "model": params, "examples": each})
            params = with_moments(self.task, params, told)
        told, more_down, more_up = self._everywhere({"kind": "evaluate", "model": params})
        traffic = {"evaluation_bytes_down": down + more_down, "evaluation_bytes_up": up + more_up}
        return {**columns(told, name), "evaluated_clients": len(told), **traffic}

    def deliver(self, params: Params, record: Callable[[dict[str, Any]], None]) -> None:
        """Sends every site that took part the model that the run ends with; the run is over anyway.

        Args:
            params: The model.
            record: Is told what crossed, letter by letter: see ``Handing``.
        """
        letter = {"run": self.roster.announcement.get("run"), "kind": "model", "model": settled(params)}
        handed_out(Handing(self.roster, letter, record))

    def saved(self, round: int) -> None:
        """A checkpoint of so many rounds is on the disk: sites may forget what only older ones need."""
        if round not in self.checkpoints:
            self.checkpoints = [*self.checkpoints, round][-_GENERATIONS:]

    def close(self) -> None:
        """Sets the number of threads back."""
        torch.set_num_threads(self.threads)

    def _asked(self, kind: str, state: Any, cohort: Sequence[Invitation]) -> Iterator[_Asked]:
        """Every client's job, in the order of the cohort, with what came of it."""
        self.roster.ready()
        jobs = list(map(Sending(self.algorithm, state, _nothing).job, cohort))
        seats = self._by_node(jobs)
        letters = {node: self._letter(kind, cohort[0].ctx.round, own) for node, own in seats.items()}
        about = {node: [job.invitation for job in own] for node, own in seats.items()}
        sent = self._send("train", letters, about if kind == "round" else _NOTHING)
        places = {seat.client: (node, i, len(own)) for node, own in about.items() for i, seat in enumerate(own)}
        answers: dict[int, Answer] = {}
        for job in jobs:
            place = None if isinstance(job, Failure) else places.get(job.invitation.client)
            if place is None:
                yield _Asked(job if isinstance(job, Failure) else absent(job))
                continue
            node, i, count = place
            if node not in answers:
                answers[node] = self._heard(sent[node])
            shares = share(sent[node].size, i, count), share(answers[node].size, i, count)
            yield _Asked(job, answers[node], shares)

    def _by_node(self, jobs: Sequence[Job | Failure]) -> dict[int, list[Job]]:
        """The jobs of each node; those of clients without a site are left out."""
        seats: defaultdict[int, list[Job]] = defaultdict(list)
        for job in jobs:
            node = None if isinstance(job, Failure) else self.roster.node_of(job.invitation.client)
            if isinstance(job, Job) and node is not None:
                seats[node].append(job)
        return seats

    def _heard(self, sent: Sent) -> Answer:
        answer = self.roster.post.answer(sent)
        if answer.problem and not answer.late:
            self.roster.forget(sent.node)
        return answer

    def _letter(self, kind: str, round: int, jobs: Sequence[Job]) -> dict[str, Any]:
        return {
            "kind": kind,
            "round": round,
            "checkpoints": list(self.checkpoints),
            "seats": list(map(self._seat, jobs)),
        }

    def _seat(self, job: Job) -> list[Any]:
        """A client has its own copy of its report, unless its memory was wrong."""
        client, ctx = job.invitation
        report = ctx.report if self.together or ctx.seen == ASTRAY else None
        return [client, ctx.capability, int(ctx.key), ctx.seen, ctx.digest, report, job.payload]

    def _everywhere(self, letter: Mapping[str, Any]) -> tuple[dict[int, Any], int, int]:
        """Answers for every client whose site is connected, and bytes down and up."""
        self.roster.ready()
        members = dict(self.roster.members)
        sent = self._send("evaluate", dict.fromkeys(members, letter))
        answers = {node: self._heard(each) for node, each in sent.items()}
        told: dict[int, Any] = {}
        for node, answer in answers.items():
            told |= own_blocks(answer, members[node].samples)
            if answer.problem:
                _log.warning("site %s tells nothing of its clients: %s", members[node].name, answer.problem)
        sizes = sum(each.size for each in sent.values()), sum(answer.size for answer in answers.values())
        return dict(sorted(told.items())), *sizes

    def _send(self, kind: str, letters: Mapping[int, Any], about: Mapping[int, Any] = _NOTHING) -> dict[int, Sent]:
        run = self.roster.announcement.get("run")
        return self.roster.post.send(kind, {node: {"run": run, **each} for node, each in letters.items()}, about)


def _nothing(client: int, seen: int) -> None:
    """The server has no client's memory."""
