"""Ranges of arguments, written once in the signature: checked in calls and recipes, shown by ``fedsep show``."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ParamSpec, TypeVar, get_args, get_origin, get_type_hints

from fedsep.core import FedSepError


@dataclass(frozen=True)
class Range:
    """Bounds of a number; None means unbounded."""

    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None

    def __str__(self) -> str:
        names = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
        return " and ".join(f"{sign} {getattr(self, n)}" for n, sign in names.items() if getattr(self, n) is not None)

    def holds(self, value: float) -> bool:
        """Whether a number lies inside; what is not finite lies in no range."""
        return (
            math.isfinite(value)
            and (self.gt is None or value > self.gt)
            and (self.ge is None or value >= self.ge)
            and (self.lt is None or value < self.lt)
            and (self.le is None or value <= self.le)
        )


Positive = Annotated[float, Range(gt=0)]
NonNegative = Annotated[float, Range(ge=0)]
Fraction = Annotated[float, Range(gt=0, le=1)]
Momentum = Annotated[float, Range(ge=0, lt=1)]
Count = Annotated[int, Range(ge=1)]
NonNegativeInt = Annotated[int, Range(ge=0)]


def ranges_of(hint: object) -> list[Range]:
    """The ranges in a type hint, also inside unions such as ``Count | None``."""
    found = [extra for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Range)]
    if get_origin(hint) is Annotated:
        return found
    return found + [r for part in get_args(hint) for r in ranges_of(part)]


def range_errors(name: str, value: object, hint: object) -> list[str]:
    """What is wrong with a number, given the hint of the argument it is meant for."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return []
    return [f"{name} must be {r} (got {value!r})" for r in ranges_of(hint) if not r.holds(value)]


P = ParamSpec("P")
R = TypeVar("R")


def checked(factory: Callable[P, R]) -> Callable[P, R]:
    """Refuses numbers outside the ranges of a factory's signature, naming all of them at once.

    Raises:
        FedSepError: From the decorated factory, with every argument that is out of range.
    """

    @functools.wraps(factory)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        hints = get_type_hints(factory, include_extras=True)
        bound = inspect.signature(factory).bind(*args, **kwargs).arguments
        errors = [e for name, value in bound.items() for e in range_errors(name, value, hints.get(name))]
        if errors:
            raise FedSepError(f"{factory.__name__}: " + "; ".join(errors))
        return factory(*args, **kwargs)

    return call
