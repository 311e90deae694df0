"""Spaces in which what is communicated lives: the model's own, or one that a re-drawn sketch shows of it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from fedsep import random, tree
from fedsep.calendar import Calendar
from fedsep.core import Params, Tree
from fedsep.operators import LinearOperator, MakeOperator
from fedsep.operators.per_layer import matrix_bytes, scale_of, stand_in


class Space(Protocol):
    """x around an anchor: ``lift`` is decode, ``lower`` the transpose of its Jacobian."""

    @property
    def calendar(self) -> Calendar:
        """When x starts anew around another anchor."""
        ...

    def anchor(self) -> Params:
        """The anchor of round 0, which both ends make from the seed."""
        ...

    def origin(self) -> Tree:
        """x as every period starts."""
        ...

    def lift(self, anchor: Params, x: Tree, epoch: int) -> Params:
        """The model, from its anchor and the x of period ``epoch``."""
        ...

    def lower(self, dy: Params, epoch: int) -> Tree:
        """A change of x from a change of the model."""
        ...


@dataclass(frozen=True)
class Plain:
    """x is the model: there is no anchor, and one period for ever.

    Attributes:
        start: The initial model.
    """

    start: Params
    calendar: Calendar = Calendar(None)

    def anchor(self) -> Params:
        """None."""
        return {}

    def origin(self) -> Params:
        """The initial model."""
        return self.start

    def lift(self, anchor: Params, x: Params, epoch: int) -> Params:
        """x, in the model's order of names."""
        return {name: x[name] for name in self.start}

    def lower(self, dy: Params, epoch: int) -> Params:
        """dy."""
        return dy


@dataclass(frozen=True)
class Sketched:
    """x has p coordinates: y = anchor + S^+ x with S^+ = S^T (S S^T)^-1, and a new S in every period.

    Attributes:
        start: The initial model, the first anchor.
        p: Communication dimension.
        calendar: When S is re-drawn.
        key: Shared by server and clients; folded with the number of the period.
        operator: Makes S.
    """

    start: Params
    p: int
    calendar: Calendar
    key: Tensor
    operator: MakeOperator
    _made: WeakValueDictionary[tuple[int, torch.dtype], LinearOperator] = field(
        init=False, default_factory=WeakValueDictionary, compare=False, repr=False
    )

    @property
    def scale(self) -> float:
        """c where S S^T is about c I: that of the first sketch."""
        return scale_of(self.operator, self.p, tree.size(self.start), random.fold(self.key, 0))

    def stored(self) -> int:
        """Bytes of a sketch, where it is a stored matrix."""
        return matrix_bytes(self.operator, self.p, tree.size(self.start))

    def sketchless(self) -> Sketched:
        """The same space with sketches that need no factorisation, for a check."""
        made = stand_in(self.operator, self.p, tree.size(self.start), random.fold(self.key, 0))
        return replace(self, operator=made)

    def anchor(self) -> Params:
        """The initial model."""
        return self.start

    def origin(self) -> Tensor:
        """p zeros."""
        return next(iter(self.start.values())).new_zeros(self.p)

    def lift(self, anchor: Params, x: Tensor, epoch: int) -> Params:
        """anchor + S^+ x, tensor by tensor: a vector of the anchor's numbers would be a copy of it."""
        sketch = self._sketch(epoch)
        pieces = sketch.rmv(sketch.solve(x)).split([part.numel() for part in self.start.values()])
        return {name: anchor[name] + piece.view_as(anchor[name])
                for name, piece in zip(self.start, pieces, strict=True)}  # fmt: skip

    def lower(self, dy: Params, epoch: int) -> Tensor:
        """(S^+)^T dy."""
        sketch = self._sketch(epoch)
        # One vector in the order of ``start``, whatever the order in which the names came.
        return sketch.solve(sketch.mv(tree.ravel({name: dy[name] for name in self.start})[0]))

    def _sketch(self, epoch: int) -> LinearOperator:
        """S of a period; while somebody has it, nobody looks at a key, which may lie on a device, to know it again."""
        period = (epoch, torch.get_default_dtype())
        sketch = self._made.get(period)
        if sketch is None:
            sketch = self.operator(self.p, tree.size(self.start), random.fold(self.key, epoch))
            with suppress(TypeError):  # a user's own, without room for a weak reference
                self._made[period] = sketch
        return sketch
