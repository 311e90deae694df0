"""Federated rounds on the first bed, through an engine of the library, with what the theorem speaks of written down."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import torch
from torch import Tensor

from fedsep.core import Ctx, Failure, FedSepError, Invitation, Samples, Shard, Tree
from fedsep.engines.engine import Delivered
from fedsep.engines.sequential import sequential
from fedsep.fedsep import ClientState, FedSep
from fedsep.learners.sgd import SGD
from fedsep.random import fold, key
from fedsep.theory.quadratic import Quadratic, QuadraticTask
from fedsep.theory.settings import Settings, method


class Moment(NamedTuple):
    """What is known in a round before the server moves.

    Attributes:
        x: x_t, shape (replicates, p).
        first: Where decode starts, y_0, shape (M, replicates, d).
        path: The learning stage: yhat_0 (the decoded y) to yhat_{I-1}, shape (I, M, replicates, d).
    """

    x: Tensor
    first: Tensor
    path: Tensor


@dataclass(frozen=True)
class _Fleet:
    shards: tuple[Shard, ...]
    validation: Samples | None = None
    test: Samples | None = None

    @property
    def clients(self) -> int:
        return len(self.shards)

    def shard(self, client: int) -> Shard:
        return self.shards[client]


def rounds(
    bed: Quadratic,
    settings: Settings,
    count: int,
    *,
    seed: int = 0,
    copies: int = 1,
    examples: int = 1,
    watch: Container[int] | None = None,
) -> Iterator[Moment]:
    """Plays rounds with all clients in each, and yields every round's moment; at the end x of the round to come.

    Args:
        bed: The problem.
        settings: Of Algorithm 1.
        count: T.
        seed: Of examples and minibatches.
        copies: Replicates.
        examples: Of each client; with one, nothing is random.
        watch: Rounds whose paths are wanted; None: all. Other moments have x alone.

    Raises:
        FedSepError: A client failed.
    """
    run = key(seed)
    algorithm = method(bed, settings, copies)
    fleet = _Fleet(bed.shards(examples, copies, fold(run, 1)))
    memories: dict[int, Tree] = {}
    task = QuadraticTask(bed, copies)
    session = sequential().open(algorithm, task, fleet, lambda client, seen: memories.get(client))
    try:
        state = algorithm.init(task.init())
        for number in range(count):
            cohort = [_invitation(run, number, m) for m in range(bed.clients)]
            seen = watch is None or number in watch
            yield _watched(algorithm, state.x, memories, fleet, cohort) if seen else _unwatched(state.x)
            outcomes = list(session.round(state, cohort))
            failed = next((one for one in outcomes if isinstance(one, Failure)), None)
            if failed is not None:
                raise FedSepError(f"round {number}: client {failed.client} failed in {failed.stage}: {failed.reason}")
            delivered = cast(list[Delivered], outcomes)
            memories.update({one.reply.client: one.memory for one in delivered})
            state, _ = algorithm.aggregate(state, [one.reply for one in delivered])
        yield _unwatched(state.x)
    finally:
        session.close()


def _unwatched(x: Tree) -> Moment:
    return Moment(x["x"], torch.empty(0), torch.empty(0))


def _invitation(run: Tensor, number: int, client: int) -> Invitation:
    drawn = fold(fold(fold(run, 2), number), client)
    return Invitation(client, Ctx(number, 1.0, drawn, number - 1))


def _watched(algorithm: FedSep, x: Tree, memories: dict[int, Tree], fleet: _Fleet, cohort: list[Invitation]) -> Moment:
    """The clients' paths again: a learning stage of i steps is the beginning of one of I, with the same minibatches."""
    learner = cast(SGD, algorithm.learner)
    firsts: list[Tensor] = []
    paths: list[Tensor] = []
    for client, ctx in cohort:
        shard = fleet.shard(client)
        known = cast("ClientState | None", memories.get(client))
        memory = algorithm.codec.enroll(x, ctx) if known is None else known.codec
        start, _ = algorithm.codec.decode(x, memory, shard, ctx)
        steps = [replace(learner, steps=i).learn(start, shard, ctx)[0]["y"] for i in range(1, learner.steps or 1)]
        firsts.append(memory["y"] if memory else torch.zeros_like(start.y["y"]))
        paths.append(torch.stack([start.y["y"], *steps]))
    return Moment(x["x"], torch.stack(firsts), torch.stack(paths, 1))
