"""Recipes: YAML that says what to run, checked against the signatures of what it names."""

from fedsep.recipes.build import Experiment, Sources, build
from fedsep.recipes.changes import Change, parse_change
from fedsep.recipes.mistakes import Mistake, RecipeError
from fedsep.recipes.reading import from_tree, read
from fedsep.recipes.recipe import Recipe, write
from fedsep.recipes.shipped import find

__all__ = [
    "Change",
    "Experiment",
    "Mistake",
    "Recipe",
    "RecipeError",
    "Sources",
    "build",
    "find",
    "from_tree",
    "parse_change",
    "read",
    "write",
]
