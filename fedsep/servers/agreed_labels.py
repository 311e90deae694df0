"""The server's step of DS-FL: the clients' labels become one, sharpened or not, and the server's model learns it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from fedsep import random
from fedsep.codecs.soft_labels import Labelled, Labels, Pool
from fedsep.core import Info, Task, Update
from fedsep.learners.descent import Descent
from fedsep.servers.reduce import mean
from fedsep.zoo import lone

Aggregation = Literal["era", "sa"]


def sharpened(labels: Labels, temperature: float) -> Labels:
    """softmax(labels / T), of probabilities and not of logits: near one-hot for small T, near uniform for large."""
    return (labels / temperature).softmax(-1)


def entropy(labels: Labels) -> Tensor:
    """-sum p log p of one example's probabilities, in nats: the mean over examples."""
    return torch.special.entr(labels.clamp_min(0)).sum(-1).mean()  # a wire may have made a little less than 0


@dataclass(frozen=True, eq=False)
class AgreedLabels:
    """labels <- mean of the clients' (SA), or softmax(mean / T) (ERA); the server's model takes steps on them.

    Attributes:
        task: Of the server's model.
        pool: The public examples.
        descent: The server's steps.
        temperature: T; None: the mean as it is.
        key: Of the order of examples.
    """

    task: Task
    pool: Pool
    descent: Descent
    temperature: float | None
    key: Tensor

    def brief(self) -> AgreedLabels:
        """The same with one step at most: enough to see whether the parts of a method fit."""
        return replace(self, descent=self.descent.brief())

    def mistakes(self) -> list[str]:
        """Why the public examples do not suit the server's model."""
        tasks = {"the server's model": self.task}
        return lone("distil_batch_size", self.descent, self.pool.per_round, "per_round:", tasks)

    def init(self, x: Labelled) -> Info:
        """Nothing was agreed yet."""
        return {}

    def told(self, x: Labelled, state: Info) -> Info:
        """The entropy of the round's labels, before and after they are sharpened; nothing if none were agreed."""
        return state if int(x["labelled"]) == int(x["round"]) else {}

    def step(self, x: Labelled, updates: Iterable[Update], state: Info) -> tuple[Labelled, Info]:
        """x after the round; with no updates, x as it was."""
        labels = mean(updates)
        if labels is None:
            return x, state
        average: Labels = labels["labels"]
        agreed = average if self.temperature is None else sharpened(average, self.temperature)
        round = int(x["round"])
        key = random.fold(self.key, round)
        model = self.pool.distilled(self.task, x["model"], agreed, round, self.descent, key)
        x = {"model": model, "labels": agreed, "labelled": x["round"], "round": x["round"]}
        return x, {"entropy_of_mean": entropy(average), "entropy_agreed": entropy(agreed)}
