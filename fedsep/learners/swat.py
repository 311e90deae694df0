"""SWAT: local steps that compute with the largest weights and activations, and train all weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from fedsep.core import Ctx, Decoded, Info, Params, Shard, Task
from fedsep.learners.sgd import SGD, Step
from fedsep.sparsity.density import Scale, quotas, share_of
from fedsep.sparsity.masks import largest
from fedsep.tasks.around import Around


@dataclass(frozen=True)
class SparseSGD:
    """SGD on the loss that SWAT computes, at the density that the client's capability allows.

    Attributes:
        sgd: The local steps; at density 1 they are all there is.
        layers: Names of the sparse weights.
        density: Of a client of capability 1.
        scale: How a client's density follows from its capability.
    """

    sgd: SGD
    layers: tuple[str, ...]
    density: float
    scale: Scale

    def learn(self, start: Decoded, shard: Shard, ctx: Ctx) -> tuple[Params, Info]:
        """y_I, and the mean minibatch loss of the round."""
        return self._at(ctx).learn(start, shard, ctx)

    @property
    def task(self) -> Task:
        """The local problem, of dense weights."""
        return self.sgd.task

    def on(self, task: Task) -> SparseSGD:
        """The same steps on another local problem."""
        return replace(self, sgd=self.sgd.on(task))

    def trail(self, start: Decoded, shard: Shard, ctx: Ctx) -> Iterator[Step]:
        """The local steps, one by one."""
        return self._at(ctx).trail(start, shard, ctx)

    def _at(self, ctx: Ctx) -> SGD:
        density = self.density * share_of(self.scale, ctx.capability)
        return self.sgd if density >= 1 else self.sgd.on(Swat(self.task, self.layers, density))


@dataclass(frozen=True)
class Swat(Around):
    """A task whose loss is computed with sparse weights and has the gradient of SWAT.

    Forward and backward to the inputs: the largest ``density`` of each layer's weights, by magnitude, chosen anew at
    every call. Backward to the weights: the largest ``density`` of the layer's inputs over the minibatch. The gradient
    reaches every weight, also those that were left out (straight through).

    Attributes:
        task: Gives the loss of dense weights.
        layers: Names of the sparse weights.
        density: Part of weights and of inputs that is used.
    """

    layers: tuple[str, ...]
    density: float

    def predict(self, params: Params, x: Tensor) -> Tensor:
        """The outputs of the sparse weights."""
        weights = {name: _straight_through(params[name], self.density) for name in self.layers}
        with _SparseInputs(list(weights.values()), self.density):
            return self.task.predict({**params, **weights}, x)


def sparsest(weight: Tensor, density: float) -> Tensor:
    """The largest ``density`` of a tensor, by magnitude, and 0 elsewhere."""
    [count] = quotas([density], [weight.numel()])
    return weight * largest(weight.abs(), count)


def _straight_through(weight: Tensor, density: float) -> Tensor:
    """Its value is sparse, its gradient that of all weights."""
    return weight + (sparsest(weight.detach(), density) - weight).detach()


class _SparseInputs(TorchFunctionMode):
    """Within it, linear layers and convolutions of some weights save sparse inputs for their weights' gradient."""

    def __init__(self, weights: Sequence[Tensor], density: float) -> None:
        super().__init__()
        self.weights, self.density = weights, density

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        named = {**dict(zip(_NAMES, args, strict=False)), **{name: given.pop(name) for name in _NAMES if name in given}}
        weight: Tensor | None = named.get("weight")
        if func not in _LAYERS or weight is None or not any(weight is each for each in self.weights):
            return func(*args, **(kwargs or {}))
        x: Tensor = named["input"]
        rest = {**dict(zip(_OPTIONS, args[3:], strict=False)), **given}
        # The gradient reaches the inputs and the bias through the first, the weight through the second, whose value
        # is taken away again.
        value = func(x, weight.detach(), named.get("bias"), **rest)
        to_weight = func(sparsest(x.detach(), self.density), weight, None, **rest)
        return value + (to_weight - to_weight.detach())


_LAYERS = (F.linear, F.conv1d, F.conv2d, F.conv3d)
_NAMES = ("input", "weight", "bias")
_OPTIONS = ("stride", "padding", "dilation", "groups")
