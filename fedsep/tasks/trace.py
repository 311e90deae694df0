"""What a module does to a few examples: which layer breaks, which draws random numbers, which writes."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fedsep import tree
from fedsep.tasks.impurities import label


class _Call(NamedTuple):
    layer: str
    inputs: list[Tensor]
    outputs: list[Tensor]


def behaviour(module: nn.Module, example: Tensor) -> list[tuple[str, str]]:
    """(layer, what is wrong with it), found by running the module twice on the same inputs.

    Afterwards the module's parameters, buffers and modes, and torch's random state, are as before.

    Raises:
        Exception: Whatever the module raises on ``example``.
    """
    with _restored(module) as held, undisturbed(example), torch.no_grad():
        first, second = _calls(module, example), _calls(module, example)
        written = [name for name, now, before in held() if not _same(now, before)]
    found = [(_label(module, name.rpartition(".")[0]), _writes(name)) for name in written]
    culprit = _random_layer(first, second)
    # What a layer writes changes what it gives next: then the first finding says it all.
    return found if found or culprit is None else [(_label(module, culprit), _RANDOM)]


_RANDOM = (
    "it gives another output for the same input and parameters: it draws random numbers that no key decides "
    "(such as torch.nn.functional.dropout), or it keeps count of its calls. Take that out of its forward"
)


def _writes(name: str) -> str:
    return (
        f"its forward pass writes {name}, which is no parameter that is learned: each client would have its own. "
        "Take that out of its forward, or freeze the layer with .eval() if it then writes nothing"
    )


def _calls(module: nn.Module, example: Tensor) -> list[_Call]:
    """The calls of all layers, in the order in which they end."""
    calls: list[_Call] = []

    def recorder(name: str) -> Any:
        return lambda _layer, inputs, outputs: calls.append(_Call(name, _copies(inputs), _copies(outputs)))

    handles = [layer.register_forward_hook(recorder(name)) for name, layer in module.named_modules()]
    try:
        module(example)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _random_layer(first: list[_Call], second: list[_Call]) -> str | None:
    """The innermost layer that gives another output for the same input, as far as can be told."""
    if [call.layer for call in first] != [call.layer for call in second]:
        return ""
    for one, two in zip(first, second, strict=True):
        if not _alike(one.outputs, two.outputs):
            # Other inputs, though every earlier call was the same: what happened lies in the layer around it.
            return one.layer if _alike(one.inputs, two.inputs) else one.layer.rpartition(".")[0]
    return None


def failing_layer(module: nn.Module, example: Tensor) -> str | None:
    """The innermost layer that raises an error on ``example``; None if none does."""
    running: list[str] = []
    handles = [
        handle
        for name, layer in module.named_modules()
        for handle in (
            layer.register_forward_pre_hook(lambda *_, name=name: running.append(name)),
            layer.register_forward_hook(lambda *_: [running.pop(), None][1]),
        )
    ]
    try:
        with _restored(module), undisturbed(example), torch.no_grad():
            module(example)
    except Exception:
        return _label(module, running[-1] if running else "")
    finally:
        for handle in handles:
            handle.remove()
    return None


def undisturbed(x: Tensor) -> AbstractContextManager[None]:
    """Inside, random numbers may be drawn on the device of ``x``; afterwards torch's state is as before."""
    return torch.random.fork_rng(devices=[x.device] if x.is_cuda else [])


@contextmanager
def _restored(module: nn.Module) -> Generator[Any]:
    """Inside, gives a function that lists (name, tensor now, as it was) of parameters and buffers."""
    parts = [
        (f"{prefix}.{key}" if prefix else key, held, key, tensor, tensor.detach().clone())
        for prefix, layer in module.named_modules()
        for held in _held(layer)
        for key, tensor in held.items()
        if tensor is not None
    ]
    try:
        yield lambda: [(name, held.get(key), copy) for name, held, key, _, copy in parts]
    finally:
        with torch.no_grad():
            for _, held, key, tensor, copy in parts:
                if not _same(tensor, copy):
                    tensor.copy_(copy)
                held[key] = tensor


def _label(module: nn.Module, name: str) -> str:
    return label(name, module.get_submodule(name))


def _held(layer: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    return layer._parameters, layer._buffers  # pyright: ignore[reportPrivateUsage]


def _copies(parts: object) -> list[Tensor]:
    return [part.detach().clone() for part in tree.leaves(parts) if isinstance(part, Tensor)]


def _alike(some: list[Tensor], others: list[Tensor]) -> bool:
    return len(some) == len(others) and all(_same(a, b) for a, b in zip(some, others, strict=True))


def _same(a: Tensor | None, b: Tensor) -> bool:
    """Equal where finite, to the accuracy of a sum in another order; nan equals nan."""
    if a is None or a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not a.is_floating_point():
        return torch.equal(a, b)
    return torch.allclose(a, b, rtol=1e-5, atol=1e-8, equal_nan=True)
