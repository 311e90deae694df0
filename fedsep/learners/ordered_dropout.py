"""Ordered dropout: every minibatch trains a prefix of the client's model, so that each prefix is a model of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from fedsep.core import Batch, Ctx, Decoded, Info, Params, Shard, Task
from fedsep.learners.sgd import SGD, Objective, Step, arrived
from fedsep.models.units import Units, kept, sliced_at
from fedsep.random import fold, integers

_WIDTHS = int.from_bytes(b"dropout", "big")  # what the client's key is folded with to draw widths


@dataclass(frozen=True)
class OrderedDropout:
    """Local steps of which each is on a prefix of the units, of a width drawn for its minibatch.

    Attributes:
        sgd: The steps; momentum and weight decay move all that the client holds.
        units: Of the whole model.
        widths: What a client draws from, up to its capability.
        distil: Whether narrower prefixes also learn from the outputs of the client's whole sub-model.
    """

    sgd: SGD
    units: Units
    widths: tuple[float, ...]
    distil: bool = False

    def learn(self, start: Decoded, shard: Shard, ctx: Ctx) -> tuple[Params, Info]:
        """y_I, and the mean minibatch loss of the round."""
        return arrived(start, self.trail(start, shard, ctx))

    @property
    def task(self) -> Task:
        """The local problem."""
        return self.sgd.task

    def on(self, task: Task) -> OrderedDropout:
        """The same steps on another local problem."""
        return replace(self, sgd=self.sgd.on(task))

    def mistakes(self, capabilities: Iterable[float]) -> list[str]:
        """Why minibatches of clients of these capabilities cannot train the widths that they may draw."""
        most = max(capabilities, default=1.0)
        drawn = sorted(width for width in set(self.widths) if width <= most)
        return [text for width in drawn for text in sliced_at(self.units, width, f"widths={width:g} trains")]

    def trail(self, start: Decoded, shard: Shard, ctx: Ctx) -> Iterator[Step]:
        """The local steps, one by one."""
        return self.sgd.walk(self._objective(start, ctx), start, shard, ctx)

    def _objective(self, start: Decoded, ctx: Ctx) -> Objective:
        loss = self._distilled if self.distil else self._plain
        key = fold(ctx.key, _WIDTHS)
        penalty = start.penalty

        def objective(number: int, y: Params, batch: Batch) -> Tensor:
            value = loss(y, batch, self.width(ctx.capability, fold(key, number)), ctx.capability)
            return value if penalty is None else value + penalty(y)

        return objective

    def width(self, capability: float, key: Tensor) -> float:
        """One of the widths up to the capability, each as likely; the capability itself if none is that small."""
        possible = [width for width in self.widths if width <= capability] or [capability]
        return possible[int(integers(key, len(possible), 1))]

    def prefix(self, y: Params, width: float) -> Params:
        """The first ceil(width n) units of every group of n; ``y`` has at least these."""
        device = next(iter(y.values())).device
        return self.units.cut(y, {g: torch.arange(kept(n, width), device=device) for g, n in self.units.sizes.items()})

    def _plain(self, y: Params, batch: Batch, width: float, capability: float) -> Tensor:
        return self.sgd.problem.loss(self.prefix(y, width), batch)

    def _distilled(self, y: Params, batch: Batch, width: float, capability: float) -> Tensor:
        """The whole sub-model's loss, and a narrower one's cross-entropy to its probabilities."""
        task = self.sgd.problem
        whole = task.predict(y, batch.x)
        loss = task.criterion(whole, batch.y)
        if width >= capability:
            return loss
        part = task.predict(self.prefix(y, width), batch.x)
        return loss + F.cross_entropy(part, whole.detach().softmax(-1))
