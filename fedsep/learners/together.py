"""Several clients' local problems as one: their models and minibatches stacked along a first dimension."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import vmap
from torch.overrides import TorchFunctionMode

from fedsep import tree
from fedsep.core import Batch, Decoded, FedSepError, Info, Params, Task
from fedsep.settle import spaced


@dataclass(frozen=True)
class Together:
    """What clients start from.

    A client's loss depends on its own slice of the stacked parameters alone, so one backward pass through the sum
    of all losses gives every client's gradient.

    Attributes:
        starts: Of each client.
        device: Of the minibatches.
    """

    starts: Sequence[Decoded]
    device: torch.device

    def first(self) -> Params:
        """y_0 of all, on the device of the data.

        Raises:
            FedSepError: The models have not the same names and shapes.
        """
        points = [start.y for start in self.starts]
        shapes = {name: part.shape for name, part in points[0].items()}
        for y in points:
            if y is not points[0] and {name: part.shape for name, part in y.items()} != shapes:
                raise FedSepError("clients learn models of different shapes")
        return {name: _stacked([y[name] for y in points], self.device) for name in shapes}

    def gradients(self, task: Task, y: Params, batch: Batch) -> tuple[Tensor, Params]:
        """Every client's value of its objective, shape (clients,), and its gradient."""
        found = None if self._penalised else _quick(task, y, batch)
        if found is not None:
            return found
        leaves = {name: part.detach().requires_grad_() for name, part in y.items()}
        with torch.enable_grad():
            with _Products():
                values = vmap(task.loss)(leaves, batch)
            values = values + self._penalties(leaves)
            parts = torch.autograd.grad(values.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True)
        return values.detach(), dict(zip(leaves, parts, strict=True))

    def each(self, function: Callable[..., Params], *arguments: Params | None) -> Params:
        """``function`` of every client's own; an argument that is None is None for all."""
        return vmap(function, in_dims=tuple(None if argument is None else 0 for argument in arguments))(*arguments)

    def projected(self, y: Params) -> Params:
        """Every client's y in the set in which it must stay."""
        if not self._projects:
            return y
        own = [start.project(part) for start, part in self._at_home(y)]
        return {name: part.to(self.device) for name, part in tree.stack(own).items()}

    def apart(self, y: Params, losses: Tensor) -> list[tuple[Params, Info]]:
        """Every client's y_I, where its y_0 lay, and its mean loss."""
        back = next(iter(self.starts[0].y.values())).device
        parts = zip(*[spaced(part.to(back)).unbind() for part in y.values()], strict=True)
        return [
            (dict(zip(y, own, strict=True)), {"loss": loss})
            for own, loss in zip(parts, losses.to(back).unbind(), strict=True)
        ]

    @property
    def _projects(self) -> bool:
        return any(start.project is not Decoded._field_defaults["project"] for start in self.starts)

    @property
    def _penalised(self) -> bool:
        return any(start.penalty is not None for start in self.starts)

    def _penalties(self, y: Params) -> Tensor | float:
        """Of each client; 0 where none has any. They are functions of their own, and so asked one by one."""
        if not self._penalised:
            return 0.0
        zero = next(iter(y.values())).new_zeros(())
        own = [zero if start.penalty is None else start.penalty(part) for start, part in self._at_home(y)]
        return torch.stack([penalty.to(self.device) for penalty in own])

    def _at_home(self, y: Params) -> Iterator[tuple[Decoded, Params]]:
        """Every client's own y where its y_0 lay, since what it starts under lies there, too."""
        for start, part in zip(self.starts, tree.unstack(y), strict=True):
            yield start, {name: each.to(start.y[name].device) for name, each in part.items()}


def _stacked(parts: Sequence[Tensor], device: torch.device) -> Tensor:
    """One tensor of all; of parts that are one and the same, a view of it, which is not to be written to."""
    if any(part is not parts[0] for part in parts):
        return torch.stack(list(parts)).to(device)
    return parts[0].to(device).contiguous().expand(len(parts), *parts[0].shape)


def _quick(task: Task, y: Params, batch: Batch) -> tuple[Tensor, Params] | None:
    """Of each client, by the task's ``gradients_together``, if its own class has them, and they can be had.

    A class that inherits them, or passes them on, may have another loss, and so may an object that was given one.
    """
    own = vars(type(task)).get("gradients_together")
    return None if own is None or "loss" in getattr(task, "__dict__", ()) else own(task, y, batch)


class _Products(TorchFunctionMode):
    """Linear layers as (W x^T)^T + b: the gradient of many small W is then one product in the order of memory.

    Where the layer is x W^T, torch makes that gradient transposed, which takes four times as long on a CPU.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not F.linear or kwargs or args[0].dim() != 2:
            return func(*args, **(kwargs or {}))
        x, weight, *bias = args
        found = (weight @ x.T).T
        return found + bias[0] if bias and bias[0] is not None else found
