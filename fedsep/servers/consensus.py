"""The server's step of Fed-ET: a larger model learns the weighted consensus of small ones, and gives back its head."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fedsep import random, tree
from fedsep.core import FedSepError, Params, Samples, Task, Update
from fedsep.learners.descent import Descent
from fedsep.servers.ensemble import Averages, Models, examples
from fedsep.zoo import Zoo, lone, outputs

SERVER = "server"
"""Name in x of the model that no client has."""

_ORDER = 2  # what a round's key is folded with


class Opinions(NamedTuple):
    """What clients say of each public example, by the class that they hold most likely.

    Attributes:
        logits: Sums of v_k s_k, shape (classes, n, classes): first the client's own choice.
        weight: Sums of v_k, the variance of a client's logits over classes; shape (classes, n).
    """

    logits: Tensor
    weight: Tensor


def opinion(logits: Tensor) -> Opinions:
    """One client's, from its logits, shape (n, classes)."""
    count, classes = logits.shape
    variance, choice = logits.var(-1, unbiased=False), logits.argmax(-1)
    at = torch.arange(count, device=logits.device)
    blank = logits.new_zeros(classes, count, classes)
    return Opinions(
        blank.index_put((choice, at), variance[:, None] * logits),
        logits.new_zeros(classes, count).index_put((choice, at), variance),
    )


class Lesson(NamedTuple):
    """What the server's model learns of each example.

    Attributes:
        label: argmax of sum_k alpha_k s_k, alpha_k = v_k / sum v; int64, shape (n,).
        others: softmax of the weighted logits of those who say otherwise, shape (n, classes).
        divided: Whether there are such, bool, shape (n,); where there are none, ``others`` means nothing.
    """

    label: Tensor
    others: Tensor
    divided: Tensor


def lesson(opinions: Opinions) -> Lesson:
    """From the sums over clients; nothing is divided by 0, as no weighted logits are taken where no weight is."""
    label = opinions.logits.sum(0).argmax(-1)  # alpha's denominator is the same for all classes
    otherwise = F.one_hot(label, opinions.weight.shape[0]).T == 0
    weight = (opinions.weight * otherwise).sum(0)
    logits = (opinions.logits * otherwise[:, :, None]).sum(0)
    divided = weight > 0
    return Lesson(label, (logits / torch.where(divided, weight, 1.0)[:, None]).softmax(-1), divided)


def lesson_loss(learned: Lesson, logits: Tensor, index: Tensor, diversity: float) -> Tensor:
    """CE(W(x), label) + lambda KL(others || softmax W(x)), the second only where clients are divided."""
    guess = logits.log_softmax(-1)
    apart = F.kl_div(guess, learned.others[index], reduction="none").sum(-1)
    return F.nll_loss(guess, learned.label[index]) + diversity * torch.where(learned.divided[index], apart, 0.0).mean()


@dataclass(frozen=True, eq=False)
class Consensus:
    """The larger model W learns the consensus of the clients' models; each of these gets its head.

    The head of W begins at the clients' mean. An architecture of which no client replied stays as it was.

    Attributes:
        zoo: The clients' architectures.
        task: That of W.
        public: Examples without labels.
        descent: The steps of W.
        diversity: lambda.
        heads: For each architecture and for W, the names of the head's parameters, in one order.
        key: Of the public examples of each round and of their order.
    """

    zoo: Zoo
    task: Task
    public: Samples
    descent: Descent
    diversity: float
    heads: Mapping[str, tuple[str, ...]]
    key: Tensor

    def brief(self) -> Consensus:
        """The same with one step at most: enough to see whether the parts of a method fit."""
        return replace(self, descent=self.descent.brief())

    def mistakes(self) -> list[str]:
        """Why the public examples do not suit the models."""
        said = partial(lone, "server_batch_size", self.descent, told="public examples met:")
        met = self.descent.examples(self.public.size)
        own = said(met, tasks={"the server's model": self.task})
        # W takes the steps; the clients' models label all examples that are met, at once.
        return own or (said(1, tasks=self.zoo.called()) if met == 1 else [])

    def init(self, x: Models) -> Tensor:
        """Number of rounds with replies, of which the draws depend."""
        return torch.tensor(0)

    def step(self, x: Models, updates: Iterable[Update], state: Tensor) -> tuple[Models, Tensor]:
        """x after the round; with no updates, x and the state as they were."""
        key = random.fold(self.key, state)
        at = examples(self.public, self.descent, key)
        averages, heads, opinions = Averages(), Averages(), None
        for update in updates:
            [(name, change)] = update.value.items()
            averages.add(name, change, update.weight)
            model = tree.add(x[name], change)
            heads.add(SERVER, self._moved(x[SERVER], name, model), update.weight)
            if len(at):
                one = opinion(outputs(self.zoo.members[name], model, self.public, at))
                opinions = one if opinions is None else Opinions(*map(torch.add, opinions, one))
        if not averages.weight:
            return x, state
        small = averages.of({name: part for name, part in x.items() if name != SERVER})
        large = heads.of({SERVER: x[SERVER]})[SERVER]
        if opinions is not None:
            large = self._taught(large, lesson(opinions), at, key)
        given = {name: self._with_head(name, y, large) if name in averages.weight else y for name, y in small.items()}
        return {**given, SERVER: large}, state + 1

    def _moved(self, large: Params, name: str, model: Params) -> Params:
        """The change of W that gives it a client's head."""
        own = dict(zip(self.heads[SERVER], self.heads[name], strict=True))
        return {n: model[own[n]] - part if n in own else torch.zeros_like(part) for n, part in large.items()}

    def _with_head(self, name: str, y: Params, large: Params) -> Params:
        own = dict(zip(self.heads[name], self.heads[SERVER], strict=True))
        return {n: large[own[n]] if n in own else part for n, part in y.items()}

    def _taught(self, large: Params, learned: Lesson, at: Tensor, key: Tensor) -> Params:
        def loss(y: Params, index: Tensor) -> Tensor:
            return lesson_loss(learned, self.task.predict(y, self.public.take(at[index]).x), index, self.diversity)

        return self.descent.fit(large, len(at), loss, random.fold(key, _ORDER))


def heads_of(models: Mapping[str, Params], head: str | None) -> dict[str, tuple[str, ...]]:
    """The names of the head's parameters in each model, in one order.

    Args:
        models: By name.
        head: First letters of these names; None: the layer of the last parameter.

    Raises:
        FedSepError: A model has none, or the heads differ in shape.
    """
    found = {model: _head(params, head) for model, params in models.items()}
    shapes = {model: {part: tuple(models[model][name].shape) for part, name in names.items()}
              for model, names in found.items()}  # fmt: skip
    if head is not None and not any(shapes.values()):
        names = sorted({name.rpartition(".")[0] for name in models[SERVER]})
        raise FedSepError(f"fedet: head must be how names of parameters begin: {', '.join(names)} (got {head!r})")
    for model, got in shapes.items():
        if not got or got != shapes[SERVER]:
            told = " and ".join(f"{_told(each)} {_shapes(shapes[each])}" for each in dict.fromkeys((SERVER, model)))
            raise FedSepError(f"fedet: zoo must hold models with one head of the same shape ({told}); head names it")
    return {model: tuple(names[part] for part in sorted(names)) for model, names in found.items()}


def _head(params: Params, head: str | None) -> dict[str, str]:
    """Names of the head's parameters, by what follows the head's own name."""
    last = next(reversed(params))
    stem = last[: last.rfind(".") + 1] if head is None else head
    return {name[len(stem) :]: name for name in params if name.startswith(stem)}


def _told(model: str) -> str:
    return "the recipe's model has" if model == SERVER else f"that of capability {model} has"


def _shapes(head: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in head.items()) or "none"
