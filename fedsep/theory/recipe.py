"""A recipe of ``fedsep theory``: one block, ``theory``, whose keys are the attributes of ``Scale``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedsep.recipes import Change, RecipeError
from fedsep.recipes.bind import Binder
from fedsep.recipes.changes import apply_changes
from fedsep.recipes.mistakes import Mistake, nearest, shown
from fedsep.recipes.text import file_tree
from fedsep.theory.finding import Scale

BLOCK = "theory"


def read(file: Path, changes: Sequence[Change] = ()) -> Scale:
    """Reads and checks a recipe.

    Args:
        file: A YAML file.
        changes: Applied in order, before anything is checked.

    Raises:
        RecipeError: With every mistake in it.
    """
    tree = file_tree(file)
    if not is_theory(tree):
        reason = "is missing: a recipe of fedsep theory is a block of this name; fedsep ls recipes shows two"
        raise RecipeError(str(file), [Mistake(BLOCK, reason)])
    made, written, mistakes = apply_changes(tree, list(changes))
    mistakes += [Mistake(key, "is no part of such a recipe", shown(made[key]), nearest(key, [BLOCK]))
                 for key in made if key != BLOCK]  # fmt: skip
    scale, wrong = _bound(made[BLOCK])
    if scale is None or mistakes or wrong:
        raise RecipeError(str(file), [*mistakes, *wrong], written)
    return scale


def is_theory(tree: Any) -> bool:
    """Whether a recipe is one of ``fedsep theory``, right or wrong."""
    return isinstance(tree, dict) and BLOCK in tree


def _bound(block: Any) -> tuple[Scale | None, list[Mistake]]:
    """The block's values as a ``Scale``, or None, and what is wrong with them."""
    if not isinstance(block, dict):
        return None, [Mistake(BLOCK, "must be a block", shown(block))]
    binder = Binder(())
    call = binder.call(Scale, BLOCK, block, BLOCK)
    if binder.mistakes:
        return None, binder.mistakes
    scale: Scale = call.build({})
    return scale, [Mistake(f"{BLOCK}.{name}", reason, shown(list(value))) for name, value, reason in scale.errors()]
