"""One client's part of a round: the same functions in every engine and in every process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fedsep import tree
from fedsep.calibrating import of_samples, with_statistics
from fedsep.core import (
    Algorithm,
    Failure,
    FedSepError,
    Info,
    Invitation,
    Params,
    Payload,
    Reply,
    Samples,
    Task,
    Tree,
    stage,
)
from fedsep.digest import sealed
from fedsep.engines.engine import Delivered, Fleet, Local, Recall
from fedsep.engines.lost import lost
from fedsep.learners.own_classes import among
from fedsep.looking import far, look
from fedsep.settle import settled

PREDICT_ROWS = 500
"""Rows of one forward pass in evaluation: fixed, so that the bits do not depend on the engine."""


_CALIBRATION = 500  # of a client's own training examples


class Job(NamedTuple):
    """What a client needs for its part; ``memory`` is None before its first accepted round.

    ``sent`` has the payload's bytes by top-level name.
    """

    invitation: Invitation
    payload: Payload
    memory: Tree | None
    sent: dict[str, int] = {}  # noqa: RUF012 - never mutated


class Result(NamedTuple):
    """What a client's part gives: the reply's payload, its memory if that is accepted, scalars, sample count."""

    payload: Payload
    memory: Tree
    info: dict[str, Any]
    samples: int


_NONE = object()  # no payload is this one


@dataclass
class Sending:
    """The server's side of the clients' parts in a round: what they are sent, and the memories they come with.

    Many methods send one tree to all: it is settled, and its bytes are counted, once.

    Attributes:
        algorithm: The method.
        state: The server's, before the round.
        recall: Gives a client's memory.
        settle: Makes a tree settled; where it goes to another process, that is done there.
    """

    algorithm: Algorithm[Any, Any]
    state: Any
    recall: Recall
    settle: Callable[[Tree], Tree] = settled
    _last: tuple[Payload, Payload, dict[str, int]] = (_NONE, None, {})

    def job(self, invitation: Invitation) -> Job | Failure:
        """What a client needs for its part."""
        try:
            with stage("broadcast"):
                invitation = Invitation(invitation.client, sealed(self.algorithm, self.state, invitation.ctx))
                payload = self.algorithm.broadcast(self.state, invitation.ctx)
                if payload is not self._last[0]:
                    self._last = payload, self.settle(payload), tree.named_bytes(payload)
            with stage("memory"):
                memory = self.settle(self.recall(invitation.client, invitation.ctx.seen))
            if invitation.ctx.report is not None:  # the rest are whole numbers, whose sums are no other anywhere
                invitation = self.settle(invitation)
            return Job(invitation, self._last[1], memory, self._last[2])
        except Exception as error:
            return failure(invitation, error)


def run(algorithm: Algorithm[Any, Any], job: Job, fleet: Fleet) -> Result | Failure:
    """Runs one client's part of a round; whatever goes wrong in it becomes a ``Failure``."""
    try:
        with stage("data"):
            shard = fleet.shard(job.invitation.client)
        memory = memory_of(algorithm, job)
        with stage("update"):
            payload, memory, info = algorithm.update(job.payload, memory, shard, job.invitation.ctx)
            tree.nbytes(payload)
        return Result(payload, memory, scalars(info), shard.train.size)
    except Exception as error:
        return failure(job.invitation, error, job.sent)


def run_local(algorithm: Algorithm[Any, Any], task: Task, job: Job, fleet: Fleet) -> Local | Failure:
    """One client's metrics on its own test part, before and after its local steps."""
    client, ctx = job.invitation
    try:
        with stage("data"):
            shard = fleet.shard(client)
        if shard.test is None or shard.test.size == 0:
            raise FedSepError(f"client {client} has no test examples to be evaluated on")
        with stage("evaluate"):
            models = algorithm.local_models(job.payload, memory_of(algorithm, job), shard, ctx)  # type: ignore[attr-defined]
            before, after = (own_metrics(task, y, shard.train, shard.test) for y in models)
        return Local(client, before, after)
    except Exception as error:
        return failure(job.invitation, error, job.sent)


def own_metrics(
    task: Task, params: Params, train: Samples, test: Samples, *, own_classes: bool = False
) -> dict[str, float]:
    """A client's metrics, with statistics of its own training data where the model needs any.

    Args:
        task: The local problem.
        params: Of the client's model.
        train: What the client learns from.
        test: What is predicted.
        own_classes: The scores of classes that it does not learn from are left out: it knows which it has.
    """
    params = with_statistics(task, params, lambda: of_samples(train, _CALIBRATION))
    outputs = predict(task, params, test)
    return task.metrics(among(outputs, train.y) if own_classes else outputs, test.y)


def memory_of(algorithm: Algorithm[Any, Any], job: Job) -> Tree:
    """What the client remembers: its memory as it comes with the job, or as it enrolls."""
    if job.memory is not None:
        return job.memory
    with stage("enroll"):
        return algorithm.enroll(job.payload, job.invitation.ctx)


def delivered(job: Job, result: Result) -> Delivered:
    """The reply as the loop reads it."""
    client, ctx = job.invitation
    return Delivered(Reply(client, ctx, result.payload, result.samples, job.sent, result.info), result.memory)


def predict(task: Task, params: Params, samples: Samples, start: int = 0, stop: int | None = None) -> Tensor:
    """Outputs for rows ``start`` to ``stop`` of ``samples``; ``start`` is a multiple of ``PREDICT_ROWS``.

    Outputs go to their place at once: small tensors that stayed behind would lie between the inputs of one pass
    and the next, and keep their memory from being used again.

    Raises:
        FedSepError: The model does not give one row for each example.
    """
    stop = samples.size if stop is None else min(stop, samples.size)
    found: Tensor | None = None
    with torch.no_grad():
        for at in range(start, stop, PREDICT_ROWS):
            x = samples.take(slice(at, min(at + PREDICT_ROWS, stop))).x
            part = task.predict(params, x)
            if part.shape[:1] != x.shape[:1]:
                raise FedSepError(f"the model must give {len(x)} rows for {len(x)} examples (got {tuple(part.shape)})")
            found = part.new_empty((stop - start, *part.shape[1:])) if found is None else found
            found[at - start : at - start + len(x)] = part
    assert found is not None
    return found


def scalars(info: Info) -> dict[str, Any]:
    """The scalars of a client as plain numbers; those on a device stay there, since to look at them is to wait."""
    return {name: value.reshape(()) if _is_far(value) else float(value) for name, value in info.items()}


def _is_far(value: Any) -> bool:
    return isinstance(value, Tensor) and far(value)


def plain(info: dict[str, Any]) -> dict[str, float]:
    """What ``scalars`` gave, as numbers, which can be sent."""
    waiting = {name: value for name, value in info.items() if isinstance(value, Tensor)}
    return {**info, **dict(zip(waiting, look(list(waiting.values())), strict=True))} if waiting else info


def failure(invitation: Invitation, error: Exception, sent: dict[str, int] | None = None) -> Failure:
    """A client's error as a value; ``sent`` has the bytes that it had been sent."""
    return Failure(*invitation, *lost(error, "update"), sent or {})
