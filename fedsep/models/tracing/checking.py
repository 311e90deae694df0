"""Whether a table of units is right: what is sliced out computes what is left when the rest is set to zero."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from fedsep import random
from fedsep.core import FedSepError, Params
from fedsep.models.scaler import Scaler
from fedsep.models.tracing.tracer import running
from fedsep.models.units import Kept, Units
from fedsep.tasks.impurities import label
from fedsep.tasks.pure import Pure

Run = Callable[[Params, Tensor], Tensor]


def check_module(table: Units, module: nn.Module, example: Tensor) -> None:
    """``check`` for a module; an error names the layer in which a slice does not run.

    Raises:
        FedSepError: The table does not hold.
    """
    stack: list[str] = [""]

    @contextmanager
    def watched() -> Generator[None]:
        stack[:] = [""]
        with running(module, stack), _unscaled(module):
            yield

    pure = Pure(module)
    check(table, pure, pure.init(), example, watched, lambda: label(stack[-1], module.get_submodule(stack[-1])))


def check(
    table: Units,
    run: Run,
    params: Params,
    example: Tensor,
    watched: Callable[[], AbstractContextManager[None]] = nullcontext,
    layer: Callable[[], str] = lambda: "the model",
) -> None:
    """Compares slices with zeroed units, group by group and for all groups together.

    Scalers and the statistics of group and layer normalisation depend on how many channels there are; they are left
    out of both sides, and what they scale and shift is compared.

    Args:
        table: The units.
        run: The model as a function of its parameters.
        params: Parameters of the right shapes.
        example: Some inputs.
        watched: Entered around every run.
        layer: What was running when a run failed.

    Raises:
        FedSepError: A slice does not run, or does not give what is expected; names layers and groups.
    """
    params = {name: _general(part, number) for number, (name, part) in enumerate(params.items())}
    every = {group: _some(table, group, number) for number, group in enumerate(table.sizes)}
    for keep in [*({group: index} for group, index in every.items()), every]:
        sliced = table.cut(params, keep)
        zeroed = {name: part * cover for (name, part), cover in
                  zip(params.items(), table.cover(params, keep).values(), strict=True)}  # fmt: skip
        try:
            with watched(), _Affine(), _in_float32(), torch.no_grad():
                wanted = run(zeroed, example)
                got = run(sliced, example)
        except Exception as error:
            raise FedSepError(_fails(table, keep, layer(), error)) from error
        if got.shape != wanted.shape or not _close(got, wanted):
            raise FedSepError(_differs(table, keep))


def check_gated(
    table: Units, run: Run, gate: Callable[[Params, Kept], Params], params: Params, example: Tensor
) -> None:
    """Compares slices with gates of 0 and 1, group by group and for all groups together; scalers scale both.

    Args:
        table: The units.
        run: The model as a function of its parameters.
        gate: Parameters and the units whose gates are 1 to the gated model's parameters.
        params: Parameters of the right shapes.
        example: Some inputs.

    Raises:
        FedSepError: A gated model does not give what the slice gives; names layers and groups.
    """
    params = {name: _general(part, number) for number, (name, part) in enumerate(params.items())}
    every = {group: _some(table, group, number) for number, group in enumerate(table.sizes)}
    for keep in [*({group: index} for group, index in every.items()), every]:
        with _Affine(), _in_float32(), torch.no_grad():
            wanted, got = run(table.cut(params, keep), example), run(gate(params, keep), example)
        if not _close(got, wanted):
            raise FedSepError(
                f"gates: a model in which some gates are 0 does not compute what the sub-model of the other units "
                f"computes, {_told(table, keep)}: the layers scale by their number of channels, or units are read by "
                "something else than convolutions and linear layers"
            )


def _some(table: Units, group: str, number: int) -> Tensor:
    """About half of a group's units, not the first ones and not in order, so that a wrong tie is seen."""
    n, by = table.sizes[group], math.lcm(*(divisor for divisor, _ in table.divisors.get(group, ())))
    return random.permutation(random.fold(random.key(3), number), n)[: max((n + 1) // 2 // by, 1) * by]


def _general(part: Tensor, number: int) -> Tensor:
    """Parameters in general position: initial zeros and ones would hide what is wrong."""
    noise = random.normal(random.fold(random.key(2), number), *part.shape).to(part)
    return part + 0.3 * noise


def _close(got: Tensor, wanted: Tensor) -> bool:
    tolerance = 1e-8 if got.dtype == torch.float64 else 1e-3
    return bool(got.isfinite().all()) and float((got - wanted).norm()) <= tolerance * max(float(wanted.norm()), 1e-6)


def _fails(table: Units, keep: Kept, layer: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"units: with fewer units {_told(table, keep)} the model does not run: {layer} says: {reason}. "
        "If a dimension is missing from these groups, write the table with declare=; if the layer is told the number "
        "of its channels (LayerNorm, a reshape to a fixed size), let it take that from its input, or use whole="
    )


def _differs(table: Units, keep: Kept) -> str:
    return (
        f"units: a slice does not compute what the whole model computes when the other units are zero, "
        f"{_told(table, keep)}: a dimension is tied to units that it does not count, or one that counts them is missing"
    )


def _told(table: Units, keep: Kept) -> str:
    if len(keep) > 1:
        return "in all groups together"
    [group] = keep
    return f"in group {group!r} (layers {', '.join(table.members(group))})"


class _Affine(TorchDispatchMode):
    """Group and layer normalisation without their statistics, which depend on the channels that are left out."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        if name == "aten::native_group_norm":
            x, weight, bias = args[:3]
            shape = (1, -1, *(1 for _ in x.shape[2:]))
            return _scaled(x, weight, bias, shape), *func(*args, **(kwargs or {}))[1:]
        if name == "aten::native_layer_norm":
            x, _, weight, bias = args[:4]
            return _scaled(x, weight, bias, None), *func(*args, **(kwargs or {}))[1:]
        return func(*args, **(kwargs or {}))


def _in_float32() -> AbstractContextManager[None]:
    """On a GPU, convolutions of float32 without TensorFloat-32: it rounds to 10 bits, by which all slices differ."""
    return torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False)


def _scaled(x: Tensor, weight: Tensor | None, bias: Tensor | None, shape: tuple[int, ...] | None) -> Tensor:
    weight, bias = (part if part is None or shape is None else part.reshape(shape) for part in (weight, bias))
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


@contextmanager
def _unscaled(module: nn.Module) -> Generator[None]:
    def same(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return inputs[0]

    handles = [layer.register_forward_hook(same) for layer in module.modules() if isinstance(layer, Scaler)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
