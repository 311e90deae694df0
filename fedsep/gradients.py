"""Value and gradient of a function of parameters, by the faster of torch's two ways."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.func import grad_and_value

from fedsep.core import Params

_watchers: list[Callable[[], None]] = []


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
    if torch._C._functorch.peek_interpreter_stack() is not None:  # type: ignore[attr-defined]
        gradient, value = grad_and_value(function)(y)
        return value, gradient
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in y.items()}
    with torch.enable_grad():
        value = function(leaves)
        parts = torch.autograd.grad(value, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return value.detach(), dict(zip(leaves, parts, strict=True))
