"""Whether an exported module computes what the run's model computes: sliced, and with the other units set to zero."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fedsep.core import FedSepError, Params, Task
from fedsep.models.scaler import Scaler

SLICED = {torch.float32: 1e-5, torch.float64: 1e-10}
"""Largest difference from the slice that runs through the whole module, relative to the largest output."""

MASKED = {torch.float32: 1e-4, torch.float64: 1e-9}
"""The same from the whole model whose other units are 0: its sums have more terms, in another order."""

EXAMPLES = 256
"""Test inputs that are compared, at most."""


class Agreement(NamedTuple):
    """Largest differences, relative to the largest output; ``masked`` is None where it does not apply.

    Attributes:
        examples: Inputs that were compared.
        sliced: From the slice through the whole module.
        masked: From the whole model with the other units' parameters at 0.
        program: Of the ``torch.export`` program from the module; None where there is no program.
    """

    examples: int
    sliced: float
    masked: float | None
    program: float | None = None


def difference(got: Tensor, wanted: Tensor) -> float:
    """The largest, relative to the largest of what is wanted."""
    return float((got - wanted).abs().max()) / max(float(wanted.abs().max()), 1e-12)


def require(what: str, found: float, allowed: Mapping[torch.dtype, float], x: Tensor) -> float:
    """The difference, if it is small enough.

    Raises:
        FedSepError: It is not.
    """
    limit = allowed.get(x.dtype, 1e-2)
    if not found <= limit:
        raise FedSepError(f"the exported module is not {what}: outputs differ by {found:.1e} (allowed: {limit:.0e})")
    return found


def masked(
    task: Task, module: nn.Module, whole: Params, part: Params, places: Mapping[str, Tensor], x: Tensor
) -> Tensor:
    """Outputs of the whole model in which all numbers but a sub-model's are 0.

    Its scalers are told how narrow the sub-model is, and the statistics of static batch normalisation are the
    sub-model's.

    Args:
        task: Runs the model.
        module: The whole module, which ``task`` runs.
        whole: The whole model's parameters.
        part: The sub-model's, with statistics where there are any.
        places: Of every number of the sub-model, its place in the whole tensor of the name, flat.
        x: Inputs.
    """
    zeroed: Params = {}
    for name, tensor in part.items():
        source = name if name in whole else _weight(name)
        flat = tensor.new_zeros(whole[source].numel())
        zeroed[name] = flat.index_copy(0, places[source].reshape(-1), tensor.reshape(-1)).reshape(whole[source].shape)
    factors: dict[str, float] = {}
    with torch.no_grad():
        with _scaling(module, factors, measure=True):
            task.predict(part, x[:2])
        with _scaling(module, factors, measure=False):
            return task.predict(zeroed, x)


def _weight(name: str) -> str:
    """The weight that belongs to a statistic: NAME.mean is of NAME.weight's units."""
    return f"{name.rpartition('.')[0]}.weight"


@contextmanager
def _scaling(module: nn.Module, factors: dict[str, float], *, measure: bool) -> Generator[None]:
    """Inside, scalers write down how much they scale, or scale by what was written down."""

    def hook(name: str, layer: Scaler) -> torch.utils.hooks.RemovableHandle:
        def see(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if measure:
                factors[name] = layer.channels / inputs[0].shape[1]
                return output
            return output * factors[name]

        return layer.register_forward_hook(see)

    handles = [hook(name, layer) for name, layer in module.named_modules() if isinstance(layer, Scaler)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
