"""A module as a pure function of its parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fedsep.core import Params
from fedsep.tasks.chain import Chain, chain_of
from fedsep.tasks.check_module import check_module


class Slot(NamedTuple):
    """A place in the module that holds a parameter: ``held[key]``; tied places share one ``name``."""

    held: dict[str, Any]
    key: str
    name: str


@dataclass(frozen=True)
class Pure:
    """A module whose parameters are given at each call, as by ``torch.func.functional_call``.

    Tied weights are one tensor under the first of their names. Parameters that need no gradient, and
    buffers, are constants: they are neither learned nor communicated. The places of the parameters are
    found once, not at each call: on small models ``functional_call`` takes longer than the forward pass.

    A buffer that is None may be given at a call like a parameter: statistics that only an evaluation has.

    Attributes:
        module: The module; its own parameters are the initial ones, and are never changed.
        slots: Where its parameters are.
        vacant: Where it has room for more.
        chain: The module as a chain of linear layers, if it is one.
    """

    module: nn.Module
    slots: tuple[Slot, ...] = field(init=False, repr=False, compare=False)
    vacant: tuple[Slot, ...] = field(init=False, repr=False, compare=False)
    chain: Chain | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "slots", _slots(self.module))
        object.__setattr__(self, "vacant", _vacant(self.module))
        object.__setattr__(self, "chain", chain_of(self.module))

    def __reduce__(self) -> tuple[Callable[[nn.Module], Pure], tuple[nn.Module]]:
        # A copy must find the places in its own module.
        return Pure, (self.module,)

    def init(self) -> Params:
        """The module's own parameters by dotted name, as fresh tensors."""
        learned = ((name, p) for name, p in self.module.named_parameters() if p.requires_grad)
        return {name: p.detach().clone(memory_format=torch.contiguous_format) for name, p in learned}

    def __call__(self, params: Params, x: Tensor) -> Tensor:
        """The module's outputs for ``x`` with ``params``; names that the module has not are ignored.

        Raises:
            KeyError: A parameter is missing.
        """
        own = [held[key] for held, key, _ in self.slots]
        try:
            for held, key, name in self.slots:
                held[key] = params[name]
            for held, key, name in self.vacant:
                held[key] = params.get(name)
            return self.module(x)
        finally:
            for (held, key, _), tensor in zip(self.slots, own, strict=True):
                held[key] = tensor
            for held, key, _ in self.vacant:
                held[key] = None


def pure(module: nn.Module) -> Pure:
    """``module`` as a pure function of its parameters.

    Raises:
        FedSepError: It cannot be one; see ``fedsep.tasks.check_module``.
    """
    check_module(module)
    return Pure(module)


def _slots(module: nn.Module) -> tuple[Slot, ...]:
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    parts = [part._parameters for part in module.modules()]  # pyright: ignore[reportPrivateUsage]
    return tuple(
        Slot(held, key, names[id(parameter)])
        for held in parts
        for key, parameter in held.items()
        if parameter is not None and parameter.requires_grad
    )


def _vacant(module: nn.Module) -> tuple[Slot, ...]:
    return tuple(
        Slot(part._buffers, key, f"{name}.{key}" if name else key)  # pyright: ignore[reportPrivateUsage]
        for name, part in module.named_modules()
        for key, buffer in part._buffers.items()  # pyright: ignore[reportPrivateUsage]
        if buffer is None
    )
