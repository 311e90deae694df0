"""Value and gradient of a function of parameters, by the faster of torch's two ways."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor
from torch.func import grad_and_value

from fedsep.core import Params

_watchers: list[Callable[[], None]] = []
_once: ContextVar[bool] = ContextVar("once", default=False)


class DifferentiatedTwice(RuntimeError):
    """What was computed for one gradient only was asked for the gradient of its gradient."""


def once() -> bool:
    """Whether what is computed now is for one gradient, by plain autograd, seen by nobody on its way.

    A model may then compute in a way that is quicker and has no second derivative; it raises ``DifferentiatedTwice``
    where one is asked for after all, and is computed again with ``once`` false.
    """
    observed = torch._C._len_torch_function_stack() or torch._C._len_torch_dispatch_stack()  # type: ignore[attr-defined]
    return _once.get() and not observed and not _transformed()


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
    if _transformed():
        gradient, value = grad_and_value(function)(y)
        return value, gradient
    token = _once.set(True)
    try:
        return _differentiated(function, y)
    except DifferentiatedTwice:
        _once.set(False)
        return _differentiated(function, y)
    finally:
        _once.reset(token)


def _differentiated(function: Callable[[Params], Tensor], y: Params) -> tuple[Tensor, Params]:
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in y.items()}
    with torch.enable_grad():
        value = function(leaves)
        parts = torch.autograd.grad(value, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return value.detach(), dict(zip(leaves, parts, strict=True))


def _transformed() -> bool:
    """Whether this runs inside a transform of ``torch.func``, such as vmap."""
    return torch._C._functorch.peek_interpreter_stack() is not None  # type: ignore[attr-defined]
