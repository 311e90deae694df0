"""Which versions can work together: of Flower, of fedsep, and of the letters that they exchange."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from fedsep.core import FedSepError

LETTERS = 1
"""Number of the form of letters; it counts up when a site of an older fedsep could not read them."""

OLDEST, BEFORE = (1, 38), (1, 42)
"""Releases of Flower that fedsep works with, from the first and before the second."""

_LONGEST = 40  # characters of a version that are shown
_NEW_TRANSPORT = (1, 40)  # Flower's network transport is another one from here on


def facts() -> dict[str, Any]:
    """What one end tells the other of itself."""
    from fedsep.flower.grammar import grammar

    versions = {"fedsep": _version("fedsep"), "flower": _version("flwr"), "torch": _version("torch")}
    return {"letters": LETTERS, "recipes": grammar(), **versions}


def mismatch(there: dict[str, Any], here: dict[str, Any]) -> str:
    """Why two ends cannot work together, for their users to read; empty if they can.

    Args:
        there: What the other end told of itself.
        here: What this end would tell.
    """
    told = {name: str(there.get(name, "none")) for name in here}
    if told["letters"] != str(here["letters"]):
        return (
            f"its letters have the form {told['letters']}, not {here['letters']}: install the same fedsep at both ends"
        )
    if told["fedsep"] != str(here["fedsep"]):
        return f"it has fedsep {told['fedsep']}, not {here['fedsep']}: install the same at both ends"
    if told["recipes"] != str(here["recipes"]):
        return "recipes mean something else to it (another state of the same fedsep): install the same at both ends"
    if told["flower"] != str(here["flower"]) and _transport(told["flower"]) != _transport(str(here["flower"])):
        return (
            f"it has flwr {told['flower']}, not {here['flower']}: releases before and from 1.40 on have different "
            "network transports. Install flwr 1.41.0 at both ends"
        )
    return ""


def difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """What two ends that work together should know; empty if there is nothing."""
    told = str(there.get("torch", "none"))[:_LONGEST]
    if told == here["torch"]:
        return ""
    return f"it has torch {told!r}, not {here['torch']!r}: numbers may differ in their last digits"


def require_flower() -> None:
    """Refuses to go on without a Flower that fedsep works with.

    Raises:
        FedSepError: It is not installed, or of another release; the message says how to get it.
    """
    why = lacking()
    if why:
        raise FedSepError(why)


def lacking() -> str:
    """Why Flower cannot be used here; empty if it can."""
    how = "pip install 'fedsep[flower]'"
    try:
        found = metadata.version("flwr")
    except metadata.PackageNotFoundError:
        return f"Flower is not installed: {how}"
    if OLDEST <= _numbers(found) < BEFORE:
        return ""
    return f"flwr {found} is installed, and fedsep works with flwr>=1.38,<1.42: {how}"


def require_new_transport() -> None:
    """Refuses commands that start Flower's own programs where their options are those of older releases.

    Raises:
        FedSepError: Flower is missing, or older than 1.40.
    """
    require_flower()
    if not _transport(metadata.version("flwr")):
        found = metadata.version("flwr")
        raise FedSepError(f"flwr {found} has the network transport of releases before 1.40: pip install 'flwr==1.41.0'")


def _transport(version: str) -> bool:
    return _numbers(version) >= _NEW_TRANSPORT


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else ()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"
