"""``--grid a.b=1,2,3``: the settings that a sweep tries."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fedsep.recipes import Change, Mistake, Recipe, RecipeError
from fedsep.recipes.mistakes import nearest, shown
from fedsep.recipes.text import inline, parse

_LONGEST = 120  # characters of a folder's name


@dataclass(frozen=True)
class Axis:
    """The values to try at one path; ``method`` is the only method it concerns, None if it concerns all."""

    path: str
    changes: tuple[Change, ...]
    method: str | None


@dataclass(frozen=True, eq=False)
class Point:
    """One combination of values, and the methods that it is tried with.

    Attributes:
        changes: What it changes in the recipe.
        methods: Names of the methods.
    """

    changes: tuple[Change, ...]
    methods: frozenset[str]

    @property
    def settings(self) -> dict[str, Any]:
        """The values by path."""
        return {".".join(change.path): change.value for change in self.changes}

    @property
    def slug(self) -> str:
        """The settings as a folder's name."""
        words = [f"{path.removeprefix('methods.')}={_brief(value)}" for path, value in self.settings.items()]
        name = re.sub(r"[^A-Za-z0-9._=,+\[\]-]+", "_", ",".join(words)) or "as_it_is"
        if len(name) <= _LONGEST:
            return name
        return f"{name[: _LONGEST - 13]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def parse_axes(texts: Sequence[str], recipe: Recipe) -> list[Axis]:
    """Reads every axis.

    Raises:
        RecipeError: One is written wrong, or a path is given twice: a setting has one value at a path.
    """
    axes = [parse_axis(text, recipe) for text in texts]
    paths = [axis.path for axis in axes]
    twice = [path for path in dict.fromkeys(paths) if paths.count(path) > 1]
    if twice:
        reason = "is given twice: put all its values into one --grid"
        raise RecipeError("--grid", [Mistake(path, reason) for path in twice])
    return axes


def parse_axis(text: str, recipe: Recipe) -> Axis:
    """Reads a path and values with commas between them; each value is YAML.

    Raises:
        RecipeError: It is written wrong, or names no method of the recipe.
    """
    path, sign, values = text.partition("=")
    parts = path.strip().split(".")
    found = parse(f"[{values}]", f"--grid {text}") if sign and values.strip() else []
    if not all(parts) or not found:
        reason = "must be PATH=VALUE,VALUE,..., as in methods.fedavg.lr=0.03,0.1"
        raise RecipeError("--grid", [Mistake("", reason, shown(text))])
    method = _method(parts, recipe, text)
    spelled = ("methods", method, *parts[2 if parts[0] == "methods" else 1 :]) if method else tuple(parts)
    source = f"--grid {path.strip()}"
    return Axis(
        ".".join(spelled), tuple(Change(spelled, value, f"{source}={_brief(value)}") for value in found), method
    )


def points(axes: Sequence[Axis], recipe: Recipe) -> list[Point]:
    """Every combination, method by method: a method is not run again for settings of another one."""
    found: dict[tuple[str, ...], tuple[tuple[Change, ...], set[str]]] = {}
    for method in recipe.methods:
        own = [axis.changes for axis in axes if axis.method in (None, method)]
        for changes in itertools.product(*own):
            name = tuple(change.source for change in changes)
            found.setdefault(name, (changes, set()))[1].add(method)
    return [Point(changes, frozenset(methods)) for changes, methods in found.values()]


def _method(parts: list[str], recipe: Recipe, text: str) -> str | None:
    """The method that a path leads into."""
    names = list(recipe.methods)
    if parts[0] == "method" and len(names) == 1:
        return names[0]
    if parts[0] != "methods":
        return None
    word = parts[1] if len(parts) > 1 else ""
    if word in names:
        return word
    if word.isdecimal() and int(word) < len(names):
        return names[int(word)]
    reason = f"methods has {', '.join(names)}, but not {word or 'an empty name'}"
    raise RecipeError(f"--grid {text}", [Mistake("", reason, meant=nearest(word, names))])


def _brief(value: Any) -> str:
    """A value on one line, without the spaces that YAML puts between."""
    return inline(value).replace(", ", ",")
