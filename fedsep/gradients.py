"""Value and gradient of a function of parameters, by the faster of torch's two ways."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import grad_and_value
from torch.overrides import _get_current_function_mode_stack  # pyright: ignore[reportPrivateUsage]
from torch.utils._device import DeviceContext

from fedsep.core import Params
from fedsep.memo import transforming

_watchers: list[Callable[[], None]] = []
_trial: ContextVar[_Trial | None] = ContextVar("trial", default=None)


@dataclass
class _Trial:
    """A computation that may be done again; ``relied``: whether something in it was made for it alone."""

    relied: bool = False


def once() -> bool:
    """Whether what is computed now is for one gradient, by plain autograd, seen by nobody on its way.

    A model may then compute in a way that is quicker and good for nothing else. Where that turns out to be not enough,
    such as for the gradient of a gradient, all is computed again, with ``once`` false.
    """
    trial = None if torch.compiler.is_compiling() else _trial.get()
    if trial is None or transforming() or _observed():
        return False
    trial.relied = True
    return True


@contextmanager
def watched(watch: Callable[[], None]) -> Generator[None]:
    """Inside, ``watch`` is called before each gradient of a local loss; what it raises ends the client's work."""
    _watchers.append(watch)
    try:
        yield
    finally:
        _watchers.remove(watch)


def value_and_gradient(function: Callable[[Params], Tensor], y: Params) -> tuple[Tensor, Params]:
    """function(y) and its gradient.

    Plain autograd costs a fraction of ``torch.func``'s overhead, but only the latter works inside vmap.
    """
    for watch in _watchers:
        watch()
    if transforming():
        gradient, value = grad_and_value(function)(y)
        return value, gradient
    trial = _Trial()
    token = _trial.set(trial)
    try:
        return _differentiated(function, y)
    except Exception:
        if not trial.relied:
            raise
    finally:
        _trial.reset(token)
    return _differentiated(function, y)


def _differentiated(function: Callable[[Params], Tensor], y: Params) -> tuple[Tensor, Params]:
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in y.items()}
    with torch.enable_grad():
        value = function(leaves)
        parts = torch.autograd.grad(value, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return value.detach(), dict(zip(leaves, parts, strict=True))


def _observed() -> bool:
    """Whether somebody sees every function or kernel on its way, such as a counter of multiply-adds."""
    if torch._C._len_torch_dispatch_stack():  # type: ignore[attr-defined]
        return True
    if not torch._C._len_torch_function_stack():  # type: ignore[attr-defined]
        return False
    # A default device, which only says where tensors are made, is one of those who see.
    return any(not isinstance(seer, DeviceContext) for seer in _get_current_function_mode_stack())
