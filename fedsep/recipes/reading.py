"""From a file to a checked recipe: read, change, look at the outer shape, bind every block."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from fedsep.cohort import Cohort
from fedsep.core import Algorithm, Task
from fedsep.engines.engine import Engine, Fleet
from fedsep.options import Checkpoint, Evaluate, Stop
from fedsep.recipes.bind import Binder, Scope
from fedsep.recipes.call import Call
from fedsep.recipes.changes import Change, apply_changes
from fedsep.recipes.mistakes import Mistake, RecipeError
from fedsep.recipes.names import method_names, name_mistakes
from fedsep.recipes.recipe import Recipe
from fedsep.recipes.shape import Shape, normalised, seeds_of, shape
from fedsep.recipes.text import parse

BLOCKS = {
    "data": (Scope(("seed", "data_dir", "download")), Fleet),
    "model": (Scope(("seed",), {"shape": "the data", "classes": "the data"}), nn.Module),
    "task": (Scope(("seed",), {"model": "the model block", "shape": "the data"}), Task),
    "engine": (Scope(), Engine),
}
"""Blocks with ``use:``: what is filled in by name, and what they must give."""

METHOD = Scope(("seed", "clients"), {"task": "the task block"})

SETTINGS = {"cohort": Cohort, "evaluate": Evaluate, "checkpoint": Checkpoint, "stop": Stop}
"""Blocks without ``use:``: their keys are the arguments of these."""


def read(file: str | Path, *, changes: Sequence[Change] = (), allow: Sequence[str] = ()) -> Recipe:
    """Reads and checks a recipe.

    Args:
        file: A YAML file.
        changes: Applied in order, before anything is checked.
        allow: Packages beside ``fedsep`` that ``use:`` may name.

    Raises:
        RecipeError: With every mistake that can be found without the data.
    """
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", "") or str(error)
        raise RecipeError(str(file), [Mistake("", f"cannot be read: {reason}")]) from None
    return from_tree(parse(text, str(file)), str(file), changes=changes, allow=allow)


def from_tree(tree: Any, file: str, *, changes: Sequence[Change] = (), allow: Sequence[str] = ()) -> Recipe:
    """As ``read``, for a recipe that is in memory already.

    Args:
        tree: Plain values as ``parse`` gives them.
        file: Its name in messages; the recipe's own name is made from it where the recipe gives none.
        changes: As for ``read``.
        allow: As for ``read``.
    """
    tree, mistakes = normalised(tree)
    written: list[tuple[str, str]] = []
    if tree:
        tree, written = apply_changes(tree, list(changes))
        found, wrong = shape(tree)
        mistakes += wrong
        recipe, wrong = _bind(found or _lenient(tree), file, allow, written)
        mistakes += wrong
        if recipe and not mistakes:
            return recipe
    raise RecipeError(file, mistakes, written)


def _lenient(tree: dict[str, Any]) -> Shape:
    """What can be bound of a recipe whose outer shape is wrong, so that its other mistakes are found too."""
    blocks: dict[str, Any] = {key: value for key, value in tree.items() if isinstance(value, dict)}
    kept = {key: blocks.get(key, {}) for key in (*BLOCKS, *SETTINGS)}
    methods = tree.get("methods")
    return Shape.model_construct(None, rounds=1, methods=methods if isinstance(methods, list) else [], **kept)


def _bind(
    found: Shape, file: str, allow: Sequence[str], written: list[tuple[str, str]]
) -> tuple[Recipe | None, list[Mistake]]:
    """The recipe, or None with what is wrong with it; blocks that are missing altogether are not bound."""
    binder = Binder(allow)
    blocks: dict[str, Call] = {}
    for key, (scope, wanted) in BLOCKS.items():
        call = binder.block(getattr(found, key), key, scope, wanted) if getattr(found, key) else None
        blocks |= {key: call} if call else {}
    binder.mistakes += name_mistakes(found.methods)
    methods: dict[str, Call] = {}
    for name, block in zip(method_names(found.methods), found.methods, strict=True):
        call = binder.block(_nameless(block), f"methods.{name}", METHOD, Algorithm)
        methods |= {name: call} if call else {}
    settings = {key: binder.call(target, key, getattr(found, key), key) for key, target in SETTINGS.items()}
    if binder.mistakes or len(blocks) < len(BLOCKS):
        return None, binder.mistakes
    recipe = Recipe(
        file=file,
        name=found.name or Path(file).stem,
        seeds=seeds_of(found),
        rounds=found.rounds,
        methods=methods,
        settings=settings,
        states=found.states,
        changes=tuple(written),
        **blocks,
    )
    return recipe, _settings_mistakes(recipe)


def _settings_mistakes(recipe: Recipe) -> list[Mistake]:
    """What the blocks without data refuse when they are built."""
    mistakes: list[Mistake] = []
    for call in (*recipe.settings.values(), recipe.engine):
        try:
            call.build({})
        except RecipeError as error:
            mistakes += error.mistakes
    return mistakes


def _nameless(block: Any) -> Any:
    return {key: value for key, value in block.items() if key != "name"} if isinstance(block, dict) else block
