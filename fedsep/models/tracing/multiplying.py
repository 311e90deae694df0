"""What a forward pass multiplies: how many multiply-adds, by which units they grow, and where each unit is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fedsep.core import FedSepError, Params
from fedsep.models.scaler import Scaler
from fedsep.models.tracing.kernels import PRODUCTS, Kernels, Reader, apart
from fedsep.models.tracing.marks import Group, Mark, resolved
from fedsep.models.tracing.rules import RULES
from fedsep.models.tracing.tracer import Tracer, fresh, running
from fedsep.models.units import Units

Run = Callable[[Params, Tensor], Tensor]


class Product(NamedTuple):
    """A convolution or a matrix product.

    Attributes:
        layer: Where it is.
        multiply_adds: For one example, at full width.
        groups: The groups of units that it grows with, each once for every dimension that counts them.
        outputs: Numbers that it gives an example.
        made: The group whose units these are; None: they grow with none.
    """

    layer: str
    multiply_adds: float
    groups: tuple[str, ...]
    outputs: float
    made: str | None


class Multiplied(NamedTuple):
    """What was found in a forward pass.

    Attributes:
        products: In their order.
        readers: Each parameter's dimensions by which units are read.
        scalers: By layer: whose number of channels a scaler looks at.
    """

    products: tuple[Product, ...]
    readers: tuple[Reader, ...]
    scalers: Mapping[str, str]


class _Seen(NamedTuple):
    layer: str
    multiply_adds: int
    made: Mark | None
    read: Mark | None
    others: tuple[Mark | None, ...]
    outputs: int
    reader: Reader | None


def multiplied(table: Units, run: Run, params: Params, example: Tensor, module: nn.Module | None = None) -> Multiplied:
    """Follows one forward pass of the whole model.

    Args:
        table: Its units.
        run: The model as a function of its parameters.
        params: Parameters of full width.
        example: Some inputs.
        module: What ``run`` runs, where it is a module: its layers are named, and its scalers found.

    Raises:
        FedSepError: Units are read by something else than a parameter, or by nothing, or are tied and the table does
            not say so; names the layer or the group.
    """
    own = apart(params)
    recorder = _Recorder(own)
    marks = {name: fresh(part) for name, part in own.items()}
    for name, part in own.items():
        recorder.set(part, marks[name])
    recorder.set(example, (None,) * example.dim())
    around = nullcontext() if module is None else running(module, recorder.stack)
    with around, recorder.scaling(module), recorder, torch.no_grad():
        run(own, example)
    names = _names(table, marks)

    def group_of(mark: Mark | None) -> str | None:
        return None if mark is None else names.get(resolved(mark).group)

    _refuse_unread(table, recorder.seen, group_of)
    count = len(example)
    products = tuple(
        Product(each.layer, each.multiply_adds / count,
                _some(group_of(mark) for mark in (each.made, each.read, *each.others)),
                each.outputs / count, group_of(each.made)) for each in recorder.seen
    )  # fmt: skip
    readers = tuple(dict.fromkeys(each.reader for each in recorder.seen if each.reader and group_of(each.read)))
    scalers = {layer: group for layer, mark in recorder.scaled.items() if (group := group_of(mark)) is not None}
    return Multiplied(products, readers, scalers)


def _some(names: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(name for name in names if name is not None)


def _names(table: Units, marks: Mapping[str, tuple[Mark | None, ...]]) -> dict[Group, str]:
    names: dict[Group, str] = {}
    for parameter, axes in table.axes.items():
        for mark, axis in zip(marks[parameter], axes, strict=True):
            if mark is not None and axis is not None:
                known = names.setdefault(resolved(mark).group, axis.group)
                if known != axis.group:
                    raise FedSepError(
                        f"gates: groups {known!r} and {axis.group!r} are the same units where the model adds them, so "
                        "that they cannot have gates of their own: give a table of units in which they are tied"
                    )
    return names


def _refuse_unread(table: Units, seen: list[_Seen], group_of: Callable[[Mark | None], str | None]) -> None:
    for each in seen:
        if group_of(each.read) is not None and each.reader is None:
            raise FedSepError(
                f"gates: layer {each.layer!r} reads units of group {group_of(each.read)!r} by something else than a "
                "parameter, so that they cannot be gated there: leave the group out of the table of units, or keep "
                "the layer whole"
            )
    read = {group_of(each.read) for each in seen}
    for group in table.sizes:
        if group not in read:
            raise FedSepError(
                f"gates: no convolution or linear layer reads the units of group {group!r} (layers "
                f"{', '.join(table.members(group))}), so that they cannot be gated: leave it out of the table of units"
            )


class _Recorder(Tracer):
    """A tracer that also notes every product.

    Attributes:
        seen: The products.
        scaled: By layer: the channels that a scaler looks at.
        stack: Names of the layers that are running.
    """

    def __init__(self, params: Params) -> None:
        super().__init__(RULES)
        self.seen: list[_Seen] = []
        self.scaled: dict[str, Mark | None] = {}
        self.stack = self._running
        self._kernels = Kernels(params)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs the operation, marks what it gave, and notes it."""
        out = super().__torch_dispatch__(func, types, args, kwargs)
        name = func._schema.name.removeprefix("aten::")
        if name == "convolution":
            self._convolution(args[0], args[1], args[6], out)
        elif name in PRODUCTS:
            self._matmul(args[-2], args[-1], out)
        return out

    def scaling(self, module: nn.Module | None) -> Any:
        """Inside, what scalers look at is noted."""
        return _Hooked(module, self._scaler)

    def _scaler(self, layer: str, x: Tensor) -> None:
        self.scaled[layer] = self.of(x)[1]

    def _convolution(self, x: Tensor, weight: Tensor, transposed: bool, out: Tensor) -> None:
        places, read = (x, 0) if transposed else (out, 1)
        count = places.numel() // places.shape[1] * weight.numel()
        marks = self.of(weight)
        self._note(count, marks[1 - read], marks[read], (), out, self._kernels.convolved(weight, transposed))

    def _matmul(self, left: Tensor, right: Tensor, out: Tensor) -> None:
        a, b = self.of(left), self.of(right)
        reader, by_left = self._kernels.multiplied(left, right)
        made, other = (a[-2], b[-1]) if by_left else (b[-1], a[-2])
        read = a[-1] or b[-2]
        self._note(left.numel() * right.shape[-1], made, read, (*a[:-2], other), out, reader)

    def _note(
        self, count: int, made: Mark | None, read: Mark | None, others: tuple[Mark | None, ...], out: Tensor,
        reader: Reader | None,
    ) -> None:  # fmt: skip
        self.seen.append(_Seen(self.layer, count, made, read, others, out.numel(), reader))


class _Hooked:
    """Inside, the inputs of all scalers are handed on."""

    def __init__(self, module: nn.Module | None, note: Callable[[str, Tensor], None]) -> None:
        self._layers = [] if module is None else [*module.named_modules()]
        self._note = note
        self._handles: list[Any] = []

    def __enter__(self) -> None:
        def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
            return lambda _layer, inputs: self._note(name, inputs[0])

        self._handles = [
            layer.register_forward_pre_hook(hook(name)) for name, layer in self._layers if isinstance(layer, Scaler)
        ]

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
