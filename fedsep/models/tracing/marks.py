"""What is known of a tensor's dimensions during a trace: which units they count, and which of these are the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Held(NamedTuple):
    """Why a group cannot be sliced: what was done to it, and in which layer."""

    layer: str
    reason: str


class Group:
    """Units of a module; groups that turn out to be one are bound to one another.

    Attributes:
        size: Number of units.
        bound: The units that these are, once that is known.
        whole: Whether something keeps them from being sliced: they are the model's inputs or outputs.
        held: Why they may not be sliced unless they are kept whole anyway.
        lost: Whether they are what an operation made of other units, and it cannot be told which of which.
        divisors: Numbers that must divide how many of them are kept, with the layer that asks for it.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.bound: Mark | None = None
        self.whole = False
        self.held: list[Held] = []
        self.lost = False
        self.divisors: list[tuple[int, str]] = []


class Mark(NamedTuple):
    """A dimension of size ``outer * group.size * inner``: place (o * size + unit) * inner + i belongs to ``unit``."""

    group: Group
    outer: int = 1
    inner: int = 1

    @property
    def size(self) -> int:
        """Length of the dimension."""
        return self.outer * self.group.size * self.inner


Marks = tuple[Mark | None, ...]
"""One for each dimension; None: not counted in units (batch, space, the model's inputs)."""


class CannotTie(Exception):
    """Two dimensions are used as one, and count units in different ways."""


def resolved(mark: Mark) -> Mark:
    """The mark in terms of a group that is not bound to another."""
    while mark.group.bound is not None:
        inner = mark.group.bound
        mark = Mark(inner.group, mark.outer * inner.outer, mark.inner * inner.inner)
    return mark


def tie(one: Mark | None, other: Mark | None) -> None:
    """From now on the two dimensions count the same units; with None, the units are kept whole.

    Raises:
        CannotTie: Both are blocks of units already, in different layouts.
    """
    one, other = one and resolved(one), other and resolved(other)
    if one is None or other is None:
        for mark in (one, other):
            if mark is not None:
                mark.group.whole = True
        return
    if one.group is other.group:
        if one != other:
            raise CannotTie
        return
    if (one.outer, one.inner) == (other.outer, other.inner):
        _bind(one.group, Mark(other.group))
    elif (one.outer, one.inner) == (1, 1):
        _bind(one.group, other)
    elif (other.outer, other.inner) == (1, 1):
        _bind(other.group, one)
    else:
        raise CannotTie


def _bind(group: Group, mark: Mark) -> None:
    group.bound = mark
    mark.group.whole |= group.whole
    mark.group.held += group.held
    mark.group.lost |= group.lost
    if group.divisors and mark.outer * mark.inner > 1:
        raise CannotTie
    mark.group.divisors += group.divisors


class _Atom(NamedTuple):
    """A factor of a dimension: all units of a group, or a number of places that count nothing."""

    size: int
    group: Group | None


def reshaped(shape: Sequence[int], marks: Marks, target: Sequence[int]) -> Marks | None:
    """The marks after a reshape; None where units of a group, or two groups, would share a dimension with others."""
    atoms = [atom for size, mark in zip(shape, marks, strict=True) for atom in _atoms(size, mark)]
    out: list[Mark | None] = []
    for size in target:
        part: list[_Atom] = []
        while math.prod(atom.size for atom in part) < size:
            if not atoms:
                return None
            missing, first = size // math.prod(atom.size for atom in part), atoms.pop(0)
            if first.group is None and first.size > missing and first.size % missing == 0:
                atoms.insert(0, _Atom(first.size // missing, None))
                first = _Atom(missing, None)
            part.append(first)
        if math.prod(atom.size for atom in part) != size:
            return None
        units = [place for place, atom in enumerate(part) if atom.group is not None]
        if len(units) > 1:
            return None
        out.append(_joined(part, units[0]) if units else None)
    return tuple(out)


def _joined(part: list[_Atom], at: int) -> Mark:
    group = part[at].group
    assert group is not None
    return Mark(group, math.prod(atom.size for atom in part[:at]), math.prod(atom.size for atom in part[at + 1 :]))


def _atoms(size: int, mark: Mark | None) -> list[_Atom]:
    mark = mark and resolved(mark)
    if mark is None:
        atoms = [_Atom(size, None)]
    else:
        atoms = [_Atom(mark.outer, None), _Atom(mark.group.size, mark.group), _Atom(mark.inner, None)]
    return [atom for atom in atoms if atom.size != 1]
