"""Scores of units by gates that are fitted to a client's data: decode of the mask codec (Eq. 6 and 7)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from torch import Tensor

from fedsep import random
from fedsep.core import Batch, Ctx, FedSepError, Params, Samples, Shard, Task
from fedsep.gates.cost import Cost, resource_loss
from fedsep.gates.fit import Adam
from fedsep.gates.gating import Gates, Gating, hard
from fedsep.gates.hypernetwork import Scores
from fedsep.gates.relaxation import Relaxation
from fedsep.learners.batches import minibatches
from fedsep.learners.own_classes import masked

_PHI, _BATCHES, _NOISE, _RESOURCE = range(0x67A7E5, 0x67A7E9)  # what keys are folded with


@dataclass(frozen=True)
class GateScores:
    """See ``gate_scores``; scores of a client's units, larger where they shall rather be kept.

    Attributes:
        task: The local problem.
        gating: How gates multiply units; ``gating.units`` is the table that the scores belong to.
        network: phi to scores.
        relaxation: Scores to gates.
        cost: What the resource loss bounds.
        exponent: The share of the cost that a client may use is its capability to this power.
        strength: lambda (the paper's beta), the weight of the resource loss.
        adam: The optimiser of phi.
        steps: How many.
        batch_size: Examples in each; None: all.
        data: D_val: the client's training data, or its validation data.
        classes: Number of classes, where scores of absent ones are left out of the loss; None: they count.
        redrawn: Whether the resource loss has a draw of its own, of gates that are 0 or 1 (NPPM), or Eq. (7)'s: the
            gates of the loss.
    """

    task: Task
    gating: Gating
    network: Scores
    relaxation: Relaxation
    cost: Cost
    exponent: int
    strength: float
    adam: Adam
    steps: int
    batch_size: int | None
    data: Literal["train", "validation"]
    classes: int | None
    redrawn: bool

    def __call__(
        self, params: Params, shard: Shard, ctx: Ctx, keep: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """By group: a number for each unit, from a phi that starts anew.

        Args:
            params: Of the whole model, or of a sub-model.
            shard: The client's data.
            ctx: Its context: the capability sets the budget, the key decides phi, minibatches and noise.
            keep: By group, the units that the sub-model has, int64, in its order; None: the model is whole.

        Returns:
            By group: a number for each unit of the model that is given, in its order.
        """
        return self.scores(self.solve(params, shard, ctx, keep), keep)

    def solve(self, params: Params, shard: Shard, ctx: Ctx, keep: Mapping[str, Tensor] | None = None) -> Params:
        """phi(x), from a phi that starts anew: the scores are those of a call."""
        return self.fit(self.init(ctx.key), params, shard, ctx, keep)

    def init(self, key: Tensor) -> Params:
        """phi before any fit; every client and round has its own, if ``key`` is ``ctx.key``."""
        return self.network.init(random.fold(key, _PHI))

    def fit(
        self, phi: Params, params: Params, shard: Shard, ctx: Ctx, keep: Mapping[str, Tensor] | None = None
    ) -> Params:
        """phi after some steps on Eq. (7); give it back next time to go on from there."""
        task, like = self.local(shard), next(iter(params.values()))
        phi = {name: part.to(like) for name, part in phi.items()}

        def objective(phi: Params, batch: Batch, key: Tensor) -> Tensor:
            scores = _of(self.network(phi), keep)
            gates = self.relaxation.draw(scores, key)
            loss = task.loss(self.gating(params, gates), batch)
            return loss + self.strength * self._resources(scores, gates, ctx, key)

        return self.adam.minimise(phi, objective, self.batches(shard, ctx), random.fold(ctx.key, _NOISE))

    def scores(self, phi: Params, keep: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Scores without noise."""
        return _of(self.network(phi), keep)

    def local(self, shard: Shard) -> Task:
        """The task, on the classes that the client has."""
        return masked(self.task, shard, self.classes)

    def samples(self, shard: Shard) -> Samples:
        """D_val.

        Raises:
            FedSepError: It is validation data, and the client has none.
        """
        samples = shard.train if self.data == "train" else shard.validation
        if samples is None or not samples.size:
            raise FedSepError("gates are to be fitted to validation data, and there are none: set validation in data")
        return samples

    def batches(self, shard: Shard, ctx: Ctx) -> Iterator[Batch]:
        """Minibatches of D_val, in an order of their own; none of one example, which batch statistics cannot have."""
        samples, key = self.samples(shard), random.fold(ctx.key, _BATCHES)
        every = minibatches(samples, key, self.batch_size, 2 * self.steps)
        return islice((batch for batch in every if len(batch.y) > 1 or samples.size == 1), self.steps)

    def target(self, ctx: Ctx) -> float:
        """What the client's gated model may cost."""
        return self.cost.total * ctx.capability**self.exponent

    def _resources(self, scores: Gates, gates: Gates, ctx: Ctx, key: Tensor) -> Tensor:
        if self.redrawn:
            gates = hard(self.relaxation.draw(scores, random.fold(key, _RESOURCE)))
        return resource_loss(self.cost(gates), self.target(ctx))


def _of(scores: dict[str, Tensor], keep: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    if keep is None:
        return scores
    return {group: part[keep[group].to(part.device)] if group in keep else part for group, part in scores.items()}
