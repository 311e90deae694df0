"""What a wire promises about what is read: E is over the keys, u is any message of n coordinates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, cast

from fedsep.core import Wire


@dataclass(frozen=True)
class Exact:
    """C(u) = u."""


@dataclass(frozen=True)
class Contraction:
    """E |u - C(u)|^2 <= (1 - delta) |u|^2: in general biased, and meant to be used with error feedback."""

    delta: float


@dataclass(frozen=True)
class Unbiased:
    """E C(u) = u and E |C(u) - u|^2 <= omega |u|^2."""

    omega: float


@dataclass(frozen=True)
class Deferred:
    """What was read so far plus the memory is what was sent so far: nothing is lost, some of it comes later.

    Attributes:
        each: The promise of the wire inside, about a message together with the memory.
    """

    each: Exact | Contraction | Unbiased | Lossy


@dataclass(frozen=True)
class Lossy:
    """Nothing that would hold for every message."""


Promise = Exact | Contraction | Unbiased | Deferred | Lossy


def promise_of(wire: Wire[Any], size: int) -> Promise:
    """What a wire promises for messages of ``size`` coordinates; ``Lossy()`` if it does not say."""
    declared = getattr(wire, "promise", None)
    return declared(size) if declared is not None else Lossy()


def keep_part(inner: Promise, part: float) -> Promise:
    """Of a wire that hands ``part`` of |u|^2 (at least, or in the mean) to ``inner`` and drops the rest."""
    match inner:
        case Exact():
            return Contraction(part)
        case Contraction(delta):
            return Contraction(delta * part)
        case Unbiased(omega) if omega < 1:
            return Contraction((1 - omega) * part)
        case _:
            return Lossy()


def together(parts: list[Promise]) -> Promise:
    """Of a message whose parts go by wires of their own, each with a promise that holds for its part."""
    if all(isinstance(part, Exact) for part in parts):
        return Exact()
    if all(isinstance(part, Exact | Contraction) for part in parts):
        return Contraction(min(part.delta for part in parts if isinstance(part, Contraction)))
    if all(isinstance(part, Exact | Unbiased) for part in parts):
        return Unbiased(max(part.omega for part in parts if isinstance(part, Unbiased)))
    if all(isinstance(part, Exact | Deferred) for part in parts):
        each = together([part.each if isinstance(part, Deferred) else part for part in parts])
        return each if isinstance(each, Deferred) else Deferred(each)
    return Lossy()


def advice(wire: Wire[Any], size: int) -> list[str]:
    """What to warn of before a run: wires that are meaningless as they stand, in one direction.

    Args:
        wire: The wire, as it stands on an uplink or a downlink.
        size: Number of coordinates of a message.
    """
    return [*_promised(wire, size), *unwise(wire, size)]


def unwise(wire: object, size: int) -> list[str]:
    """What a wire, or one inside it, says against being used at all for messages of ``size`` coordinates.

    A wire of your own says so by a method ``unwise(size) -> str | None``.
    """
    say: Callable[[int], str | None] | None = getattr(wire, "unwise", None)
    own = None if say is None else say(size)
    parts = [getattr(wire, field.name) for field in fields(wire)] if is_dataclass(wire) else []
    return [f"{type(wire).__name__} {own}"] if own else [text for part in parts for text in unwise(part, size)]


def _promised(wire: Wire[Any], size: int) -> list[str]:
    """What follows from the promise."""
    match promise_of(wire, size):
        case Contraction(delta) if delta < 0.5:
            return [
                f"{_name(wire)} without error feedback: of a message of {size} coordinates it is sure to keep only "
                f"{delta:.2g} (of the squared norm), and what it leaves out is lost: use error_feedback(...)"
            ]
        case Deferred(Unbiased(omega)) if omega >= 1:
            return [
                f"{_name(wire)} around an unbiased wire whose error can be {omega:.3g} times the message (squared): "
                "the memory can grow without bound; use the wire without error feedback, or one that contracts"
            ]
        case _:
            return []


def varies(wire: object) -> bool:
    """Whether the length of what a wire packs depends on the message's numbers, not on its shapes alone.

    Such a code, or a wire of your own, says so by an attribute ``varies`` that is True; it is found wherever it is
    nested. What varies must be packed as uint8 with one axis, and take no more bytes than the message as it is.
    A view says in the same way that a client's change has vectors of lengths that the client chose.
    """
    return any(getattr(part, "varies", False) is True for part in within(wire))


def within(part: object) -> Iterator[object]:
    """A part and all that it is made of, wherever it holds it: in fields, lists or mappings."""
    if isinstance(part, Mapping):
        inner: list[object] = list(cast(Mapping[str, object], part).values())
    elif isinstance(part, list | tuple):
        inner = list(cast(list[object], part))
    else:
        yield part
        inner = [getattr(part, field.name) for field in fields(part)] if is_dataclass(part) else []
    for each in inner:
        yield from within(each)


def _name(wire: Wire[Any]) -> str:
    return type(wire).__name__
