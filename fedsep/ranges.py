"""Ranges of arguments, written once in the signature: checked in calls and recipes, shown by ``fedsep show``."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Annotated, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints, overload

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

    def demand(self, value: float) -> str:
        """What is asked of a number that does not lie inside: one that is not finite may well be > 0."""
        return str(self) if math.isfinite(value) else f"a finite number {self}".rstrip()

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
Part = Annotated[float, Range(ge=0, le=1)]
Momentum = Annotated[float, Range(ge=0, lt=1)]
Count = Annotated[int, Range(ge=1)]
NonNegativeInt = Annotated[int, Range(ge=0)]


def ranges_of(hint: object) -> list[Range]:
    """The ranges in a type hint, also inside unions such as ``Count | None``."""
    found = [extra for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Range)]
    if get_origin(hint) is Annotated:
        return found
    return found + [r for part in get_args(hint) for r in ranges_of(part)]


def argument_errors(name: str, value: object, hint: object) -> list[str]:
    """What is wrong with a value, given the hint of the argument it is meant for.

    Numbers, flags, texts, None and literals are checked, also in unions; any other hint accepts everything.
    """
    demands = [_demand(value, part) for part in _alternatives(hint)]
    if None in demands:
        return []
    sizes = [demand for demand in demands if demand and demand[0] in "<>"]  # a number of the right kind
    return [f"{name} must be {' or '.join(dict.fromkeys(sizes or demands))} (got {value!r})"]  # type: ignore[arg-type]


def _alternatives(hint: object) -> list[object]:
    if get_origin(hint) in (Union, UnionType):
        return [part for each in get_args(hint) for part in _alternatives(each)]
    return [hint]


def _demand(value: object, hint: object) -> str | None:
    """What a hint without alternatives asks of a value that does not meet it; None if it does."""
    base = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    if get_origin(base) is Literal:
        choices = get_args(base)
        return None if any(value == choice and type(value) is type(choice) for choice in choices) else _or(choices)
    if base not in _KINDS:
        return None
    kind, called = _KINDS[base]
    bounds = [str(bound) for bound in ranges_of(hint)]
    if not isinstance(value, kind) or (isinstance(value, bool) and base is not bool):
        return " ".join([called, *bounds])
    outside = [bound for bound in ranges_of(hint) if not bound.holds(float(value))]  # type: ignore[arg-type]
    return " and ".join(bound.demand(float(value)) for bound in outside) or None  # type: ignore[arg-type]


def _or(choices: tuple[object, ...]) -> str:
    names = [str(choice) for choice in choices]
    return " or ".join(names) if len(names) < 3 else f"one of {', '.join(names)}"


_KINDS: dict[object, tuple[type, str]] = {
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    bool: (bool, "True or False"),
    str: (str, "a text"),
    NoneType: (NoneType, "None"),
}


P = ParamSpec("P")
R = TypeVar("R")


@overload
def checked(factory: Callable[P, R]) -> Callable[P, R]: ...
@overload
def checked(*, takes: Callable[..., object]) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def checked(factory: Callable[..., object] | None = None, *, takes: Callable[..., object] | None = None) -> object:
    """Refuses arguments that a factory's signature does not allow, naming all of them at once.

    Args:
        factory: What is decorated.
        takes: For a factory with ``**local: Unpack[LocalSGD]``: the function whose parameters these are. The
            signature then lists the names of the typed dictionary with that function's defaults.

    Raises:
        FedSepError: From the decorated factory, with every argument of the wrong type, range or choice.
        TypeError: While decorating: the typed dictionary and ``takes`` do not agree.
    """
    return _checked(factory, takes) if factory else lambda factory: _checked(factory, takes)


def _checked(factory: Callable[..., object], takes: Callable[..., object] | None) -> Callable[..., object]:
    @functools.wraps(factory)
    def call(*args: object, **kwargs: object) -> object:
        hints = get_type_hints(call, include_extras=True)
        bound = inspect.signature(call).bind(*args, **kwargs).arguments
        errors = [e for name, value in bound.items() for e in argument_errors(name, value, hints.get(name))]
        if errors:
            raise FedSepError(f"{factory.__name__}: " + "; ".join(errors))
        return factory(*args, **kwargs)

    if takes is not None:
        _spell_out(call, takes)
    return call


def taken_from(factory: object) -> Callable[..., object] | None:
    """The function whose parameters a factory passes on, with their descriptions; None if there is none."""
    return getattr(factory, "__takes__", None)


def _spell_out(call: Callable[..., object], takes: Callable[..., object]) -> None:
    """Puts the names of a typed dictionary where the signature has ``**local``."""
    own = inspect.signature(call)
    [rest] = [p.name for p in own.parameters.values() if p.kind is inspect.Parameter.VAR_KEYWORD]
    [names] = get_args(get_type_hints(call, include_extras=True)[rest])
    hints, theirs = get_type_hints(names, include_extras=True), get_type_hints(takes, include_extras=True)
    wrong = [name for name in hints if hints[name] != theirs.get(name)]
    if wrong:
        raise TypeError(f"{call.__name__}: {names.__name__} and {takes.__name__} disagree about {', '.join(wrong)}")
    passed = {name: inspect.signature(takes).parameters[name].replace(annotation=hints[name]) for name in hints}
    named = {name: p for name, p in own.parameters.items() if name != rest}
    call.__signature__ = own.replace(parameters=[*named.values(), *passed.values()])  # type: ignore[attr-defined]
    call.__annotations__ = {**{n: h for n, h in call.__annotations__.items() if n != rest}, **hints}
    call.__takes__ = takes  # type: ignore[attr-defined]
