"""Whether sites would run a recipe, found out by the server: by the rules of a site that allows what it does."""

from __future__ import annotations

from pathlib import Path

from fedsep.flower.announce import announcement
from fedsep.flower.rules import Rules
from fedsep.recipes.mistakes import Mistake, RecipeError
from fedsep.recipes.recipe import Recipe


def refusals(recipe: Recipe) -> list[Mistake]:
    """What a site would refuse of each method of a recipe, each once.

    Raises:
        FedSepError: A method's recipe is too long to be sent.
    """
    found = [mistake for name in recipe.methods for mistake in _of_method(recipe, name)]
    return list(dict.fromkeys(found))


def _of_method(recipe: Recipe, name: str) -> tuple[Mistake, ...]:
    told = announcement(recipe.single(name, recipe.seeds[0]))["recipe"]
    try:
        Rules(Path(), allow=recipe.allow).admitted(told)
    except RecipeError as error:
        return error.mistakes
    return ()
