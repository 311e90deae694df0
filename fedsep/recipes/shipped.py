"""The recipes that come with fedsep, and how a name on the command line becomes a file."""

from __future__ import annotations

from pathlib import Path

from fedsep.recipes.mistakes import Mistake, RecipeError, nearest

_PACKAGE = Path(__file__).resolve().parents[1]


def folder() -> Path:
    """Where they lie: inside an installed package, at the root of a checkout."""
    installed = _PACKAGE / "_recipes"
    return installed if installed.is_dir() else _PACKAGE.parent / "recipes"


def names() -> list[str]:
    """Their names, ``quickstart`` or ``mnist_cnn/fedavg``."""
    root = folder()
    return sorted(file.relative_to(root).with_suffix("").as_posix() for file in root.rglob("*.yaml"))


def find(recipe: str) -> Path:
    """The file that is meant by a path or by the name of a shipped recipe.

    Args:
        recipe: A path, with or without ``.yaml``; a results folder, whose recipe is meant; or a shipped name.

    Raises:
        RecipeError: There is no such file and no such name.
    """
    given = Path(recipe)
    inside = (given, given / "recipe.yaml", Path(f"{given}.yaml"))
    name = recipe.removesuffix(".yaml").removeprefix("recipes/")
    for file in (*inside, *((folder() / f"{name}.yaml",) if name in names() else ())):
        if file.is_file():
            return _from_here(file)
    around = [str(file) for file in given.parent.glob("*.yaml")] if given.parent.is_dir() else []
    below = [shipped for shipped in names() if shipped.startswith(f"{name}/")]
    meant = nearest(recipe, [*around, *names()]) or (below[0] if below else "")
    reason = "there is no such file, and no shipped recipe of this name"
    if given.is_dir():
        reason = "this folder holds no recipe.yaml, and no shipped recipe has its name"
    raise RecipeError(
        recipe, [Mistake("", reason if meant else f"{reason}; fedsep ls recipes shows them", meant=meant)]
    )


def _from_here(file: Path) -> Path:
    """A path as a user in this folder would write it: messages and records carry it."""
    return file.relative_to(Path.cwd()) if file.is_absolute() and file.is_relative_to(Path.cwd()) else file
