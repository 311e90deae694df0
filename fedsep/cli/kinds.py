"""What there is to use, found by walking the packages: a new part appears without being registered."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from fedsep.core import FedSepError
from fedsep.recipes.mistakes import nearest
from fedsep.recipes.produces import attributes, produced
from fedsep.recipes.resolve import public_names, resolve


@dataclass(frozen=True)
class Kind:
    """A sort of part.

    Attributes:
        package: Where its parts are.
        fits: Whether something in the package's ``__all__`` is of this sort.
    """

    package: str
    fits: Callable[[Any], bool]


def _gives(*names: str) -> Callable[[Any], bool]:
    """Functions whose result has all these attributes."""

    def fits(found: Any) -> bool:
        made = produced(found)
        return inspect.isfunction(found) and made is not None and attributes(made).issuperset(names)

    return fits


def _reduces(found: Any) -> bool:
    """Reductions are functions of updates, or give one."""
    made = produced(found)
    return inspect.isfunction(found) and (made is None or "__call__" in vars(made))


def signature(found: Any) -> tuple[str, ...]:
    """Names of a function's parameters."""
    return tuple(inspect.signature(found).parameters)


KINDS = {
    "methods": Kind("fedsep.algorithms", inspect.isfunction),
    "datasets": Kind("fedsep.data", _gives("shard")),
    "partitions": Kind("fedsep.data", _gives("deal")),
    "models": Kind("fedsep.models", lambda found: inspect.isfunction(found) and "classes" in signature(found)),
    "tasks": Kind("fedsep.tasks", _gives("loss")),
    "codecs": Kind("fedsep.codecs", callable),
    "learners": Kind("fedsep.learners", _gives("learn")),
    "schedules": Kind("fedsep.learners", lambda found: inspect.isfunction(found) and not _gives("learn")(found)),
    "servers": Kind("fedsep.servers", _gives("step")),
    "reductions": Kind("fedsep.servers", _reduces),
    "wires": Kind("fedsep.wires", _gives("pack")),
    "privacy": Kind("fedsep.privacy", _gives("aggregate")),
    "engines": Kind("fedsep.engines", inspect.isfunction),
}


def parts(kind: str) -> Iterator[tuple[str, Any]]:
    """The parts of a kind: dotted path and object, in alphabetical order."""
    sort = KINDS[kind]
    module = importlib.import_module(sort.package)
    for path in sorted(public_names(sort.package)):
        found = getattr(module, path.rpartition(".")[2])
        if sort.fits(found):
            yield path, found


def part(name: str, allow: tuple[str, ...] = ()) -> tuple[str, Any]:
    """A part by its name or by its dotted path.

    Raises:
        FedSepError: There is none, or several kinds have one of this name.
    """
    if "." in name:
        return name, resolve(name, allow)
    known = {path: found for kind in KINDS for path, found in parts(kind)}
    same = [path for path in known if path.rpartition(".")[2] == name]
    if len(same) == 1:
        return same[0], known[same[0]]
    if same:
        raise FedSepError(f"{name} may be {' or '.join(same)}: give the whole path")
    meant = nearest(name, [path.rpartition(".")[2] for path in known])
    raise FedSepError(f"there is nothing called {name}" + (f" (did you mean {meant}?)" if meant else "; see fedsep ls"))
