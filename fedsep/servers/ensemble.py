"""The server's step of FedDF: a mean for each architecture, then the ensemble of all clients is distilled into each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from fedsep import random, tree
from fedsep.core import Params, Samples, Update
from fedsep.learners.descent import Descent, divergence
from fedsep.zoo import Zoo, lone, outputs

Models = dict[str, Params]

_EXAMPLES, _ORDER = 1, 2  # what a round's key is folded with


@dataclass
class Averages:
    """Means of the clients' changes, one for each architecture, as they come.

    Attributes:
        total: Sums of weighted changes.
        weight: Sums of weights.
    """

    total: Models = field(default_factory=dict[str, Params])
    weight: dict[str, float] = field(default_factory=dict[str, float])

    def add(self, name: str, change: Params, weight: float) -> None:
        """One client's."""
        scaled = tree.scale(change, weight)
        self.total[name] = tree.add(self.total[name], scaled) if name in self.total else scaled
        self.weight[name] = self.weight.get(name, 0.0) + weight

    def of(self, x: Models) -> Models:
        """The averaged models; as it was where no client of an architecture replied."""
        return {name: tree.add(part, self._mean(name)) if name in self.total else part for name, part in x.items()}

    def _mean(self, name: str) -> Params:
        return {n: part / self.weight[name] for n, part in self.total[name].items()}


@dataclass(frozen=True, eq=False)
class EnsembleDistil:
    """x_g <- mean of its clients, then steps on KL(softmax(mean of all clients' logits) || softmax f(x_g)).

    The clients' logits are added up as they come, on the public examples of the round: memory does not grow with the
    cohort.

    Attributes:
        zoo: The architectures.
        public: Examples without labels.
        descent: The steps; 0 steps leave the means.
        key: Of the public examples of each round and of their order.
    """

    zoo: Zoo
    public: Samples
    descent: Descent
    key: Tensor

    def brief(self) -> EnsembleDistil:
        """The same with one step at most: enough to see whether the parts of a method fit."""
        return replace(self, descent=self.descent.brief())

    def mistakes(self) -> list[str]:
        """Why the public examples do not suit the models."""
        met = self.descent.examples(self.public.size)
        return lone("server_batch_size", self.descent, met, "public examples met:", self.zoo.called())

    def init(self, x: Models) -> Tensor:
        """Number of rounds with replies, of which the draws depend."""
        return torch.tensor(0)

    def step(self, x: Models, updates: Iterable[Update], state: Tensor) -> tuple[Models, Tensor]:
        """x after the round; with no updates, x and the state as they were."""
        key = random.fold(self.key, state)
        at = examples(self.public, self.descent, key)
        averages, logits, clients = Averages(), torch.tensor(0.0), 0
        for update in updates:
            [(name, change)] = update.value.items()
            averages.add(name, change, update.weight)
            clients += 1
            if len(at):
                logits = logits + outputs(self.zoo.members[name], tree.add(x[name], change), self.public, at)
        if not clients:
            return x, state
        means = averages.of(x)
        if not len(at):
            return means, state + 1
        teacher = (logits / clients).softmax(-1)
        return {name: self._distilled(name, y, teacher, at, key) for name, y in means.items()}, state + 1

    def _distilled(self, name: str, y: Params, teacher: Tensor, at: Tensor, key: Tensor) -> Params:
        task = self.zoo.members[name]

        def loss(y: Params, index: Tensor) -> Tensor:
            return divergence(teacher[index], task.predict(y, self.public.take(at[index]).x))

        return self.descent.fit(y, len(at), loss, random.fold(key, _ORDER))


def examples(public: Samples, descent: Descent, key: Tensor) -> Tensor:
    """Positions of the public examples that the steps will meet, int64: no others are predicted."""
    order = random.permutation(random.fold(key, _EXAMPLES).to(public.y.device), public.size)
    return order[: descent.examples(public.size)]
