"""Runs a module once and follows, operation by operation, which units each dimension counts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from fedsep.models.tracing.marks import CannotTie, Group, Held, Mark, Marks, resolved, tie


class Tracer(TorchDispatchMode):
    """Marks of every tensor that a forward pass makes.

    Attributes:
        rules: By name of a torch operation: what it does to marks.
        whole: Names of layers whose inputs and outputs stay whole.
    """

    def __init__(self, rules: dict[str, Rule], whole: Sequence[str] = ()) -> None:
        super().__init__()
        self.rules = rules
        self.whole = tuple(whole)
        self._running: list[str] = [""]
        self._marks: dict[int, tuple[Tensor, Marks]] = {}  # the tensor is kept, so that its id stays its own

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs the operation, then marks what it gave."""
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        rule = self.rules.get(name) or self.rules.get(name.removesuffix("_")) or not_known(name)
        outs = [each for each in (out if isinstance(out, list | tuple) else [out]) if isinstance(each, Tensor)]
        try:
            rule(self, args, kwargs or {}, outs)
        except CannotTie:
            reason = f"its {name} takes blocks of units of two different layouts for one"
            self.lose(tensors_in((args, kwargs)), outs, reason)
        self._keep_whole([*tensors_in((args, kwargs)), *outs])
        return out

    @property
    def layer(self) -> str:
        """Dotted name of the innermost layer that is running."""
        return self._running[-1]

    def of(self, tensor: Tensor) -> Marks:
        """A tensor's marks; a constant of the module has none."""
        found = self._marks.get(id(tensor))
        return (None,) * tensor.dim() if found is None else tuple(mark and resolved(mark) for mark in found[1])

    def known(self, tensor: Tensor) -> bool:
        """Whether a tensor comes from parameters or inputs."""
        return id(tensor) in self._marks

    def set(self, tensor: Tensor, marks: Marks) -> None:
        """Says what a tensor's dimensions count."""
        self._marks[id(tensor)] = tensor, marks

    def mark(self, outs: Sequence[Tensor], marks: Marks) -> None:
        """Marks an operation's first result, and its others with nothing."""
        for place, tensor in enumerate(outs):
            self.set(tensor, marks if place == 0 and len(marks) == tensor.dim() else (None,) * tensor.dim())

    def hold(self, marks: Sequence[Mark | None], reason: str) -> None:
        """These units cannot be sliced, for a reason that is told unless they are kept whole anyway."""
        for group in _groups(marks):
            if not group.lost:  # else the reason is known: it is why they are
                group.held.append(Held(self.layer, reason))

    def lose(self, tensors: Sequence[Tensor], outs: Sequence[Tensor], reason: str) -> None:
        """These tensors' units cannot be sliced, nor what an operation made of them: it is not known which is which.

        Where nothing was used that may be sliced, nothing is lost. Dimensions that count nothing still do where their
        number stays.
        """
        found = [self.of(tensor) for tensor in tensors]
        self.hold([mark for marks in found for mark in marks], reason)
        like = next((marks for marks in found if _groups(marks)), ())
        for out in outs:
            same = len(like) == out.dim()
            self.set(out, tuple(self.lost(like[dim : dim + 1] if same else like, size, reason)
                                for dim, size in enumerate(out.shape)))  # fmt: skip

    def lost(self, marks: Sequence[Mark | None], size: int, reason: str) -> Mark | None:
        """A dimension whose places were made of units in a way that is not known: what counts them is refused, too.

        Args:
            marks: What it was made of; of dimensions that count nothing, or stay whole, nothing is lost.
            size: Its length.
            reason: What was done; an earlier one comes first.
        """
        made_of = _groups(marks)
        if not made_of or size < 2:
            return None
        group = Group(size)
        group.held = [held for each in made_of if each.lost for held in each.held] or [Held(self.layer, reason)]
        group.lost = True
        return Mark(group)

    def _keep_whole(self, tensors: Sequence[Tensor]) -> None:
        """What meets a layer that shall stay whole stays whole."""
        if any(f"{self.layer}.".startswith(f"{name}.") for name in self.whole):
            for mark in (mark for tensor in tensors for mark in self.of(tensor)):
                tie(mark, None)

    @contextmanager
    def watching(self, module: nn.Module) -> Generator[None]:
        """Inside, ``layer`` is known."""
        with running(module, self._running), self, torch.no_grad():
            yield


def _groups(marks: Sequence[Mark | None]) -> list[Group]:
    """Those that may yet be sliced."""
    found = [resolved(mark).group for mark in marks if mark is not None]
    return [group for group in found if not group.whole]


Rule = Callable[[Tracer, Any, Any, "list[Tensor]"], None]


def not_known(name: str) -> Rule:
    """What is done where no rule is known: units that meet the operation are held."""

    def rule(tracer: Tracer, args: Any, kwargs: Any, outs: list[Tensor]) -> None:
        tracer.lose(tensors_in((args, kwargs)), outs, f"it is not known what torch's {name} does to single units")

    return rule


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors in nested arguments."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return [each for part in value.values() for each in tensors_in(part)]  # type: ignore[reportUnknownVariableType]
    if isinstance(value, list | tuple):
        return [each for part in value for each in tensors_in(part)]  # type: ignore[reportUnknownVariableType]
    return []


@contextmanager
def running(module: nn.Module, stack: list[str]) -> Generator[None]:
    """Inside, ``stack`` ends with the name of the innermost layer that is running."""
    handles = [
        handle
        for name, layer in module.named_modules()
        for handle in (
            layer.register_forward_pre_hook(lambda *_, name=name: stack.append(name)),
            layer.register_forward_hook(lambda *_: [stack.pop(), None][1]),
        )
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def fresh(tensor: Tensor) -> Marks:
    """Marks of a parameter: groups of its own; a dimension of one unit cannot be sliced."""
    return tuple(Mark(Group(size)) if size > 1 else None for size in tensor.shape)


def tie_all(marks: Sequence[Mark | None]) -> Mark | None:
    """Ties dimensions to one another; None if one of them counts nothing."""
    for one, other in itertools.pairwise(marks):
        tie(one, other)
    return None if None in marks else marks[0]
