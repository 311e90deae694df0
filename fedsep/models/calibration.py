"""The statistics of static batch normalisation, measured on training data when a model is evaluated."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from fedsep.core import Params
from fedsep.models.static_norm import StaticNorm
from fedsep.tasks.pure import Pure


class Moments(NamedTuple):
    """Sums over all places seen."""

    places: int
    total: Tensor
    squares: Tensor

    def plus(self, more: Moments) -> Moments:
        """Those of both."""
        return Moments(self.places + more.places, self.total + more.total, self.squares + more.squares)


def is_static(module: nn.Module) -> bool:
    """Whether a module has static batch normalisation."""
    return any(isinstance(layer, StaticNorm) for layer in module.modules())


def by_minibatch(module: nn.Module) -> bool:
    """Whether a module normalises minibatches by their own statistics, of which one example has none or poor ones.

    Of one image a layer with places normalises by its places, and one without refuses: neither is what others do.
    """
    return is_static(module) or any(
        isinstance(layer, _BatchNorm) and layer.running_mean is None for layer in module.modules()
    )


def calibrated(model: Pure, params: Params, batches: Iterable[Tensor]) -> Params:
    """The parameters with the mean and variance of every static batch normalisation's inputs over all batches.

    In the pass that measures, every batch is normalised by its own statistics, as in training. Variances are those
    of all batches together, not means of the batches' variances, and unbiased, as torch keeps running ones.

    Args:
        model: The model.
        params: Its parameters, or a sub-model's.
        batches: Inputs, un-augmented, each of two examples or more; 100 or more are better.
    """
    return {**params, **finished(measure(model, params, batches))}


def measure(model: Pure, params: Params, batches: Iterable[Tensor]) -> dict[str, Moments]:
    """The sums that statistics are made of, by the normalisation's name; those of several clients add up."""
    seen: dict[str, Moments] = {}
    with _measured(model.module, seen), torch.no_grad():
        for x in batches:
            model(params, x)
    return seen


def finished(moments: Mapping[str, Moments]) -> Params:
    """Mean and variance of every normalisation, under the names of its parameters."""
    return {key: value for name, each in moments.items() for key, value in _statistics(name, each)}


@contextmanager
def _measured(module: nn.Module, seen: dict[str, Moments]) -> Generator[None]:
    """Inside, the inputs of all static normalisations are summed up."""

    def record(name: str, x: Tensor) -> None:
        over = [dim for dim in range(x.dim()) if dim != 1]
        moments = Moments(x.numel() // x.shape[1], x.sum(over), x.square().sum(over))
        before = seen.get(name)
        seen[name] = moments if before is None else before.plus(moments)

    def recorder(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _layer, inputs: record(name, inputs[0])

    handles = [
        layer.register_forward_pre_hook(recorder(name))
        for name, layer in module.named_modules()
        if isinstance(layer, StaticNorm)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _statistics(name: str, moments: Moments) -> list[tuple[str, Tensor]]:
    mean = moments.total / moments.places
    variance = (moments.squares / moments.places - mean.square()).clamp_min(0) * moments.places / (moments.places - 1)
    return [(f"{name}.mean", mean), (f"{name}.variance", variance)]
