"""What a letter says of rounds and clients, looked at before it is used: it becomes names of files at a site."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

from fedsep.core import ASTRAY, FedSepError

LARGEST = 1 << 53
"""Whole numbers from outside are below it: larger ones are no counts, and do not become floats."""

_LONGEST = 40  # characters of what a letter says of itself


def is_whole(value: object, least: int) -> TypeGuard[int]:
    """Whether it is a whole number from ``least`` that may count something."""
    return type(value) is int and least <= value < LARGEST


def shortened(value: object) -> str | None:
    """What came from outside, to be written down: some characters of a word or number; of all else, the type."""
    if value is None:
        return None
    plain = isinstance(value, str) or is_whole(value, -LARGEST)
    return str(value)[:_LONGEST] if plain else f"a {type(value).__name__}"


def require_places(letter: Mapping[str, Any], client: object, seen: object) -> None:
    """Sees that a letter's numbers of rounds, and of the client that a seat is for, are such.

    Raises:
        FedSepError: One is something else.
    """
    checkpoints: Any = letter.get("checkpoints")
    if not isinstance(checkpoints, list | tuple):
        raise FedSepError(f"the letter's checkpoints must be a list of rounds (got {shortened(checkpoints)})")
    _require_whole("client", client)
    _require_whole("round", letter.get("round"))
    _require_whole("last accepted round", seen, ASTRAY)
    for complete in checkpoints:  # pyright: ignore[reportUnknownVariableType]
        _require_whole("checkpoints", complete)


def _require_whole(name: str, value: object, least: int = 0) -> None:
    if not is_whole(value, least):
        raise FedSepError(f"the letter's {name} must be a whole number from {least} (got {shortened(value)})")
