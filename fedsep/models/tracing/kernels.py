"""By which dimension a parameter is read, whether it is multiplied as it lies or transposed."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from fedsep.core import Params
from fedsep.tasks.pure import Pure

PRODUCTS = ("mm", "bmm", "addmm", "baddbmm")
"""torch's operations that multiply matrices."""
_LOOKUPS = ("embedding", "_embedding_bag", "_embedding_bag_forward_only")


class Reader(NamedTuple):
    """A dimension of a parameter over which units are summed up: what a layer reads of them."""

    name: str
    dim: int


class Kernels:
    """Parameters by where they lie: a layer may transpose one before it multiplies by it, and the memory is the same.

    Args:
        params: Contiguous, each in memory of its own.
    """

    def __init__(self, params: Params) -> None:
        self._found = {part.untyped_storage().data_ptr(): (name, part) for name, part in params.items()}

    def convolved(self, weight: Tensor, transposed: bool) -> Reader | None:
        """How a convolution reads its kernel."""
        return self._reader(weight, 0 if transposed else 1)

    def multiplied(self, left: Tensor, right: Tensor) -> tuple[Reader | None, bool]:
        """How a matrix product reads the one of its factors that is a parameter, and whether that is the left one."""
        reader = self._reader(right, right.dim() - 2)
        return (self._reader(left, left.dim() - 1), True) if reader is None else (reader, False)

    def looked_up(self, weight: Tensor) -> Reader | None:
        """How an embedding reads its table: a row for each input."""
        return self._reader(weight, 0)

    def _reader(self, kernel: Tensor, dim: int) -> Reader | None:
        """Which dimension of which parameter this is."""
        name, part = self._found.get(kernel.untyped_storage().data_ptr(), ("", None))
        if part is None:
            return None
        here = kernel.stride(dim), kernel.shape[dim]
        dims = [each for each in range(part.dim()) if (part.stride(each), part.shape[each]) == here]
        return Reader(name, dims[-1]) if dims else None


def apart(params: Params) -> Params:
    """Contiguous copies, each in memory of its own."""
    return {name: part.detach().clone(memory_format=torch.contiguous_format) for name, part in params.items()}


def in_first(module: nn.Module, example: Tensor) -> tuple[str, ...]:
    """The kernels that lie (in, out, ...): those of which a forward pass reads nothing but the first dimension."""
    pure = Pure(module)
    params = apart(pure.init())
    watch = _Watch(Kernels(params))
    with watch, torch.no_grad():
        pure(params, example)
    return tuple(name for name, part in params.items() if part.dim() > 1 and watch.read.get(name) == {0})


class _Watch(TorchDispatchMode):
    """Notes by which dimensions parameters are read."""

    def __init__(self, kernels: Kernels) -> None:
        super().__init__()
        self.read: dict[str, set[int]] = {}
        self._kernels = kernels

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs the operation, and notes what it reads."""
        reader = self._reader(func._schema.name.removeprefix("aten::"), args)
        if reader is not None:
            self.read.setdefault(reader.name, set()).add(reader.dim)
        return func(*args, **(kwargs or {}))

    def _reader(self, name: str, args: Any) -> Reader | None:
        if name == "convolution":
            return self._kernels.convolved(args[1], args[6])
        if name in PRODUCTS:
            return self._kernels.multiplied(args[-2], args[-1])[0]
        return self._kernels.looked_up(args[0]) if name in _LOOKUPS else None
