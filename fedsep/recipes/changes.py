"""Changes to a recipe from the command line: ``--set methods.fedavg.lr=0.05``, by name or by index.

Only the way to a value is checked here; whether the value belongs there is checked with the rest of the recipe.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from fedsep.recipes.mistakes import Mistake, RecipeError, nearest, shown
from fedsep.recipes.names import method_names
from fedsep.recipes.text import parse


@dataclass(frozen=True)
class Change:
    """A value to be put at a path; ``source`` is the option as the user wrote it, for messages."""

    path: tuple[str, ...]
    value: Any
    source: str


def parse_change(text: str, option: str = "--set") -> Change:
    """Reads ``a.b=v``; v is YAML, so ``[1, 2]``, ``1e-3`` and ``{use: fedsep.data.iid}`` are what they look like.

    Raises:
        RecipeError: There is no ``=``, the path is empty, or v is no YAML.
    """
    path, sign, value = text.partition("=")
    parts = tuple(path.strip().split("."))
    if not sign or not all(parts):
        raise RecipeError(option, [Mistake("", "must be PATH=VALUE, as in methods.fedavg.lr=0.05", shown(text))])
    source = f"{option} {text}"
    return Change(parts, parse(value, source), source)


class Changed(NamedTuple):
    """A changed recipe.

    Attributes:
        tree: The recipe.
        written: For each change the path it wrote, spelled as mistakes spell it, with its source.
        mistakes: Paths that lead through something that is neither a block nor a list, or to no method.
    """

    tree: dict[str, Any]
    written: list[tuple[str, str]]
    mistakes: list[Mistake]


def apply_changes(tree: dict[str, Any], changes: list[Change]) -> Changed:
    """A changed copy of a recipe, whose methods are a list; a change that cannot be made is a mistake, not an error."""
    made = Changed(copy.deepcopy(tree), [], [])
    for change in changes:
        mistake = _write(made.tree, change)
        if mistake:
            made.mistakes.append(replace(mistake, source=change.source))
        else:
            made.written.append((_spelled(made.tree, change.path), change.source))
    return made


def method_index(blocks: list[Any], word: str) -> int | None:
    """The place of the method that ``word`` names, by name or by index; None if there is none."""
    if word.isdecimal() and int(word) < len(blocks):
        return int(word)
    names = method_names(blocks)
    return names.index(word) if word in names else None


def _write(tree: dict[str, Any], change: Change) -> Mistake | None:
    here: Any = tree
    parts = _plural(tree, change.path)
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        where = ".".join(parts[:depth])
        if isinstance(here, list):
            blocks: list[Any] = here
            index = method_index(blocks, part) if where == "methods" else _index(blocks, part)
            if index is None:
                known = method_names(blocks) if where == "methods" else [str(i) for i in range(len(blocks))]
                reason = f"{where} has {', '.join(known) or 'nothing'}, but not {part}"
                return Mistake("", reason, meant=nearest(part, known))
            here, key = blocks, index
        elif isinstance(here, dict):
            key = part
        else:
            return Mistake("", f"{where} is a single value, so nothing can be set inside it", shown(here))
        if last:
            here[key] = _with_faults(change.value, here.get(key)) if parts == ("engine",) else change.value
        else:
            here = _inside(here, key)
    return None


def _with_faults(engine: Any, before: Any) -> Any:
    """Another engine computes the same, so what befalls its clients stays unless the change says otherwise."""
    if not isinstance(engine, dict) or not isinstance(before, dict) or "faults" not in before:
        return engine
    return {"faults": before["faults"], **engine}


def _inside(here: Any, key: Any) -> Any:
    if isinstance(here, dict) and here.get(key) is None:
        here[key] = {}
    return here[key]


def _plural(tree: dict[str, Any], path: tuple[str, ...]) -> tuple[str, ...]:
    """``method.lr`` of a recipe with one method means ``methods.0.lr``."""
    single = path[0] == "method" and len(tree.get("methods") or []) == 1
    return ("methods", "0", *path[1:]) if single else path


def _index(values: list[Any], part: str) -> int | None:
    return int(part) if part.isdecimal() and int(part) < len(values) else None


def _spelled(tree: dict[str, Any], path: tuple[str, ...]) -> str:
    path = _plural(tree, path)
    if path[0] != "methods" or len(path) == 1:
        return ".".join(path)
    index = method_index(tree["methods"], path[1])
    name = path[1] if index is None else method_names(tree["methods"])[index]
    return ".".join(("methods", name, *path[2:]))
