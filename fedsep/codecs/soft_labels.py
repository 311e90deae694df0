"""The codec of DS-FL: what is communicated are probabilities on public examples, and decode learns them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NotRequired, TypedDict

import torch
from torch import Tensor

from fedsep import random
from fedsep.core import Ctx, Decoded, Info, Params, Samples, Shard, Task
from fedsep.learners.descent import Descent, divergence
from fedsep.zoo import Zoo, by_minibatch, lone, outputs

_EXAMPLES, _ORDER = 1, 8401  # what keys are folded with

Models = dict[str, Params]
"""By architecture."""

Labels = Tensor
"""Probabilities, shape (n, classes)."""


class Labelled(TypedDict):
    """x of DS-FL.

    Attributes:
        model: The server's own.
        labels: What was agreed on the public examples of round ``labelled``.
        labelled: That round, -1 before the first.
        round: Number of the round to come.
    """

    model: Params
    labels: Labels
    labelled: Tensor
    round: Tensor


class Targets(TypedDict):
    """What a client is sent: nothing before labels are agreed."""

    labels: NotRequired[Labels]
    labelled: NotRequired[Tensor]


@dataclass(frozen=True, eq=False)
class Pool:
    """The public examples, of which some are labelled in each round, by the same draw on both ends.

    Attributes:
        samples: All.
        per_round: How many are labelled in a round.
        key: Shared.
    """

    samples: Samples
    per_round: int
    key: Tensor

    @property
    def public(self) -> Samples:
        """All, by the name that other parts of methods have for them."""
        return self.samples

    def at(self, round: int) -> Tensor:
        """Positions of a round's examples, int64, shape (n,): without replacement."""
        order = random.permutation(random.fold(random.fold(self.key, _EXAMPLES), round), self.samples.size)
        return order[: self.per_round]

    def distilled(self, task: Task, y: Params, labels: Labels, round: int, descent: Descent, key: Tensor) -> Params:
        """The model after steps on the labels of a round's examples: KL(label || softmax f(y))."""
        at = self.at(round)

        def loss(y: Params, index: Tensor) -> Tensor:
            return divergence(labels[index], task.predict(y, self.samples.take(at[index]).x))

        return descent.fit(y, len(at), loss, key)


@dataclass(frozen=True, eq=False)
class SoftLabels:
    """y_0 = argmin_y KL(labels || y(public)), from the client's own model; dx are its own labels of other examples.

    A client's model is its memory and never leaves it. It keeps one for every architecture that it has had.

    Attributes:
        zoo: Which architecture a client has.
        pool: The public examples.
        descent: Steps of decode.
        classes: Outputs of a model.
    """

    zoo: Zoo
    pool: Pool
    descent: Descent
    classes: int

    def mistakes(self) -> list[str]:
        """Why the public examples do not suit the models."""
        names = by_minibatch(self.zoo.called())
        if self.pool.per_round == 1 and names:
            return [f"per_round must be >= 2, since {names[0]} has batch normalisation (got 1)"]
        return lone("distil_batch_size", self.descent, self.pool.per_round, "per_round:", self.zoo.called())

    def init(self, params: Params) -> Labelled:
        """The server's model, and no labels yet."""
        blank = next(iter(params.values())).new_zeros(self.pool.per_round, self.classes)
        return {"model": params, "labels": blank, "labelled": torch.tensor(-1), "round": torch.tensor(0)}

    def enroll(self, x: Targets, ctx: Ctx) -> Models:
        """No model has been trained yet."""
        return {}

    def decode(self, x: Targets, memory: Models, shard: Shard, ctx: Ctx) -> tuple[Decoded, Models]:
        """The client's model after some steps on the labels."""
        name = self.zoo.name(ctx.capability)
        task = self.zoo.members[name]
        y = memory[name] if name in memory else task.init()
        if "labels" in x and "labelled" in x:
            key = random.fold(ctx.key, _ORDER)
            y = self.pool.distilled(task, y, x["labels"], int(x["labelled"]), self.descent, key)
        return Decoded(y), memory

    def encode(
        self, start: Decoded, y: Params, x: Targets, memory: Models, shard: Shard, ctx: Ctx
    ) -> tuple[dict[str, Labels], Models, Info]:
        """The client's probabilities on this round's examples; its model becomes its memory."""
        name = self.zoo.name(ctx.capability)
        logits = outputs(self.zoo.members[name], y, self.pool.samples, self.pool.at(ctx.round))
        return {"labels": logits.softmax(-1)}, {**memory, name: y}, {}

    def brief(self) -> SoftLabels:
        """One step of decode at most."""
        return replace(self, descent=self.descent.brief())

    def advance(self, x: Labelled, round: int) -> tuple[Labelled, bool]:
        """The clock moves."""
        return {**x, "round": torch.tensor(round)}, False

    def model(self, x: Labelled) -> Params:
        """The server's own."""
        return x["model"]
