"""Local stochastic gradient descent: the learning stage of Algorithm 1 (lines 12-16)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, TypedDict

import torch
from torch import Tensor

from fedsep import tree
from fedsep.core import Batch, Ctx, Decoded, FedSepError, Info, Params, Shard, Task
from fedsep.gradients import value_and_gradient
from fedsep.learners.augment import Augment
from fedsep.learners.batches import lengths, minibatches, minibatches_together, per_epoch
from fedsep.learners.precision import Precision, check_precision, computed
from fedsep.learners.schedules import Schedule
from fedsep.learners.together import Together
from fedsep.random import fold
from fedsep.ranges import Count, Momentum, NonNegative, Positive, checked

_BATCHES = 1  # what the client's key is folded with to draw minibatches


Objective = Callable[[int, Params, Batch], Tensor]
"""What a step descends, from the step's number in the round, y and a minibatch."""


class Step(NamedTuple):
    """One local step: y after it, and the loss and its gradient before."""

    y: Params
    loss: Tensor
    gradient: Params


class Steps(Protocol):
    """A learner whose local steps can be followed, and taken on another local problem."""

    def learn(self, start: Decoded, shard: Shard, ctx: Ctx) -> tuple[Params, Info]:
        """y_I from y_0."""
        ...

    def on(self, task: Task) -> Steps:
        """The same steps on another local problem."""
        ...

    def trail(self, start: Decoded, shard: Shard, ctx: Ctx) -> Iterator[Step]:
        """The local steps, one by one."""
        ...

    @property
    def task(self) -> Task:
        """The local problem."""
        ...


def arrived(start: Decoded, steps: Iterable[Step]) -> tuple[Params, Info]:
    """Where local steps lead, and their mean loss."""
    y, losses = start.y, list[Tensor]()
    for step in steps:
        y = step.y
        losses.append(step.loss)
    return y, {"loss": torch.stack(losses).mean()}


@dataclass(frozen=True)
class SGD:
    """See ``sgd``."""

    task: Task
    lr: float = 0.1
    steps: int | None = 5
    epochs: int | None = None
    batch_size: int | None = 64
    momentum: float = 0.0
    weight_decay: float = 0.0
    clip: float | None = None
    proximal: float = 0.0
    schedule: Schedule | None = None
    augment: Augment | None = None
    precision: Precision | None = None

    def learn(self, start: Decoded, shard: Shard, ctx: Ctx) -> tuple[Params, Info]:
        """y_I, and the mean minibatch loss of the round."""
        return arrived(start, self.trail(start, shard, ctx))

    def on(self, task: Task) -> SGD:
        """The same steps on another local problem."""
        return replace(self, task=task)

    def trail(self, start: Decoded, shard: Shard, ctx: Ctx) -> Iterator[Step]:
        """The local steps, one by one."""
        return self.walk(lambda number, y, batch: self._objective(start, y, batch), start, shard, ctx)

    def walk(self, objective: Objective, start: Decoded, shard: Shard, ctx: Ctx) -> Iterator[Step]:
        """The local steps on any objective, one by one."""
        y, velocity, lr = start.y, None, self.rate(ctx)
        for number, batch in enumerate(self._batches(shard, ctx)):
            loss, gradient = value_and_gradient(lambda y, n=number, batch=batch: objective(n, y, batch), y)
            velocity = self.direction(gradient, y, start.y, velocity)
            y = start.project({name: y[name].sub(velocity[name], alpha=lr) for name in y})
            yield Step(y, loss, gradient)

    def learn_together(
        self, starts: Sequence[Decoded], shards: Sequence[Shard], ctxs: Sequence[Ctx]
    ) -> list[tuple[Params, Info]]:
        """``learn`` for several clients of one round at once, their tensors stacked; the same but for rounding.

        It computes where the shards' tensors lie, and gives back y_I where y_0 lies.

        Raises:
            FedSepError: The clients' models or minibatches do not have the same shapes.
        """
        sizes = {shard.train.size: shard for shard in shards}
        if len({self.pace(shard) for shard in sizes.values()}) > 1:
            raise FedSepError("clients have minibatches of different sizes, or different numbers of them")
        device, parts = shards[0].train.x.device, [shard.train for shard in shards]
        together = Together(starts, device)
        keys = fold(torch.stack([ctx.key for ctx in ctxs]).to(device), _BATCHES)
        batches = minibatches_together(parts, keys, self.batch_size, self._count(shards[0]), self.augment)
        lr = self.rate(ctxs[0])
        first = y = together.first()
        velocity, losses = None, list[Tensor]()
        for batch in batches:
            loss, gradient = together.gradients(self.problem, y, batch)
            velocity = gradient if self._plain else together.each(self.direction, gradient, y, first, velocity)
            own = y is not first  # from the second step on in its own memory
            moved = {name: (part.sub_ if own else part.sub)(velocity[name], alpha=lr) for name, part in y.items()}
            y = together.projected(moved)
            losses.append(loss)
        return together.apart(y, torch.stack(losses).mean(0))

    def pace(self, shard: Shard) -> tuple[int, ...]:
        """How many examples each minibatch of a round has: clients of one pace can learn together."""
        return lengths(shard.train.size, self.batch_size, self._count(shard))

    def reach(self, shard: Shard, ctx: Ctx) -> float:
        """How far a gradient that stays the same moves y in a round, per unit of it: I lr without momentum."""
        steps, lr = range(1, self._count(shard) + 1), self.rate(ctx)
        return lr * sum((1 - self.momentum**i) / (1 - self.momentum) for i in steps)

    @property
    def problem(self) -> Task:
        """The local problem in the precision in which it is computed."""
        return computed(self.task, self.precision)

    @property
    def _plain(self) -> bool:
        """Whether the direction is the gradient."""
        return not (self.proximal or self.weight_decay or self.momentum) and self.clip is None

    def _batches(self, shard: Shard, ctx: Ctx) -> Iterator[Batch]:
        key, count = fold(ctx.key, _BATCHES), self._count(shard)
        return minibatches(shard.train, key, self.batch_size, count, self.augment)

    def rate(self, ctx: Ctx) -> float:
        """The learning rate of a round."""
        return self.lr * (self.schedule(ctx.round) if self.schedule else 1.0)

    def _objective(self, start: Decoded, y: Params, batch: Batch) -> Tensor:
        loss = self.problem.loss(y, batch)
        return loss if start.penalty is None else loss + start.penalty(y)

    def _count(self, shard: Shard) -> int:
        if self.epochs is None:
            assert self.steps is not None
            return self.steps
        return self.epochs * per_epoch(shard.train, self.batch_size or shard.train.size)

    def direction(self, gradient: Params, y: Params, y0: Params, velocity: Params | None) -> Params:
        """The direction of descent: the gradient with proximal term, clipped, decayed, with momentum."""
        if self.proximal:
            gradient = tree.add(gradient, tree.sub(y, y0), self.proximal)
        if self.clip is not None:
            gradient = tree.scale(gradient, (self.clip / tree.norm(gradient).clamp_min(1e-12)).clamp_max(1.0))
        if self.weight_decay:
            gradient = tree.add(gradient, y, self.weight_decay)
        if velocity is None or not self.momentum:
            return gradient
        return tree.add(gradient, velocity, self.momentum)


class LocalSGD(TypedDict, total=False):
    """The arguments of ``sgd`` that methods pass on to it as they are: what they mean is said there."""

    lr: Positive
    steps: Count | None
    epochs: Count | None
    batch_size: Count | None
    momentum: Momentum
    weight_decay: NonNegative
    clip: Positive | None
    schedule: Schedule | None
    augment: Augment | None
    precision: Precision | None


@checked
def sgd(
    task: Task,
    *,
    lr: Positive = 0.1,
    steps: Count | None = None,
    epochs: Count | None = None,
    batch_size: Count | None = 64,
    momentum: Momentum = 0.0,
    weight_decay: NonNegative = 0.0,
    clip: Positive | None = None,
    proximal: NonNegative = 0.0,
    schedule: Schedule | None = None,
    augment: Augment | None = None,
    precision: Precision | None = None,
) -> SGD:
    """y <- y - lr (clip(grad f(y; B) + proximal (y - y_0)) + weight_decay y), with momentum started anew each round.

    Args:
        task: Gives f.
        lr: eta, the local learning rate.
        steps: I, the local steps in a round; 5 if neither steps nor epochs are given.
        epochs: Passes over a client's data in a round, instead of steps.
        batch_size: b_y, examples in a minibatch of the learning stage; None takes all.
        momentum: Local heavy-ball momentum, started anew in every round.
        weight_decay: Coefficient of y in the direction, outside the clipping, as in torch's SGD.
        clip: Largest Euclidean norm of a local gradient over all parameters together, the proximal term's included.
        proximal: mu of FedProx (arXiv:1812.06127).
        schedule: Factor of lr by round, from ``fedsep.learners``.
        augment: What the inputs of a minibatch become before a step, from ``fedsep.learners``.
        precision: ``bfloat16`` computes the network so in local steps, forward and backward; parameters, gradients,
            everything else and all that is sent stay float32. ``float32``, or None: nothing is lowered.

    Raises:
        FedSepError: Both steps and epochs are given, a number is out of range, or the model is not in float32.
    """
    if steps is not None and epochs is not None:
        raise FedSepError(f"steps and epochs exclude each other (got steps={steps}, epochs={epochs}): give one")
    check_precision(task, precision)
    count = 5 if steps is None and epochs is None else steps
    lowered = None if precision == "float32" else precision
    return SGD(task, lr, count, epochs, batch_size, momentum, weight_decay, clip, proximal, schedule, augment, lowered)
