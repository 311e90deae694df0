"""What a site lets a server do: its recipe is text that is checked here, and names only what this site allows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from fedsep.core import FedSepError
from fedsep.data.sites import Sites, sites
from fedsep.flower.here import OWN, PLACES, RECIPE, Here, blamed, numbered, own_block, sources
from fedsep.flower.limits import Limits
from fedsep.recipes.build import Experiment, build
from fedsep.recipes.call import Call, Reference
from fedsep.recipes.mistakes import Mistake
from fedsep.recipes.reading import from_tree
from fedsep.recipes.recipe import Recipe
from fedsep.recipes.resolve import public_names, resolve
from fedsep.recipes.text import parse

PARTS = (
    "algorithms", "codecs", "data", "gates", "lasso", "learners", "models", "operators", "privacy", "scores", "servers",
    "sparsity", "tasks", "views", "wires",
)  # fmt: skip
"""Packages of fedsep whose parts a site runs for a server: those in ``__all__``, and ``MORE``."""

MORE = ("fedsep.algorithms.fedsep_personal.NearServer",)
"""Parts that recipes name further in."""

_LARGEST = 1 << 20  # characters of a recipe


@dataclass(frozen=True)
class Rules:
    """What a site has, and what it gives.

    Attributes:
        data: Folder with its data.
        clients: Which clients of the federation are here; None: see ``numbered``.
        allow: Packages beside ``fedsep`` that a recipe may name here.
        limits: What one client's part of a round may take.
        name: What the server's log calls the site.
    """

    data: Path
    clients: tuple[int, ...] | None = None
    allow: tuple[str, ...] = ()
    limits: Limits = Limits()
    name: str = "site"

    def admitted(self, text: str) -> Recipe:
        """The server's recipe, if this site may run it.

        Raises:
            RecipeError: With every mistake, and everything that is not allowed here.
        """
        if len(text) > _LARGEST:
            raise FedSepError(f"{RECIPE} has {len(text):,} characters, more than the {_LARGEST:,} that this site reads")
        tree = parse(text, RECIPE)
        if isinstance(tree, dict):
            tree = {key: part for key, part in tree.items() if key not in ("engine", "checkpoint", "accept")}
        recipe = from_tree(tree, RECIPE, allow=self.allow)
        found = list(_forbidden(recipe, self.allow))
        if found:
            raise recipe.error(found)
        if len(recipe.methods) != 1 or len(recipe.seeds) != 1:
            raise FedSepError(f"{RECIPE} must be of one method and one seed")
        return recipe

    def experiment(self, recipe: Recipe) -> Experiment:
        """The run's method on this site's data.

        Raises:
            FedSepError: The data are not here, are not of the form that the recipe says, or do not fit the method.
        """
        own, [seed] = own_block(self.data, self.allow), recipe.seeds
        if own is None:
            with blamed(RECIPE, own=False):
                return build(recipe, seed, sources(own, self.data), arrange=self._dealt_alike)
        if recipe.data.target is not sites:
            raise FedSepError(
                f"this site has data of its own ({OWN}), and {RECIPE} deals out those of {recipe.data.use}: "
                "it must say data: {use: fedsep.data.sites, ...}"
            )
        declared: Sites = recipe.data.build({})

        def arrange(data: Any) -> Here:
            here = self.here(data, declared.clients, True)
            _require_form(here, declared)
            return here

        with blamed(str(self.data / OWN), own=True):
            return build(replace(recipe, data=own), seed, sources(own, self.data), arrange=arrange)

    def _dealt_alike(self, data: Any) -> Here:
        return self.here(data, data.clients, False)

    def here(self, data: Any, clients: int, own: bool) -> Here:
        """This site's clients among so many, with their data: its own, or its part of a data set.

        Raises:
            FedSepError: It has no data, or not those of these clients.
        """
        if isinstance(data, Sites):
            raise FedSepError(f"this site has no data: {self.data} holds no data.yaml that says how to read its own")
        return numbered(data, self.clients, clients, own)


def _forbidden(recipe: Recipe, allow: tuple[str, ...]) -> Iterator[Mistake]:
    """What a recipe names that a site must not run for others, or places where it must not look for them."""
    for path, use, target, arguments in _named(recipe):
        if id(target) not in _offered() and not any(use == root or use.startswith(f"{root}.") for root in allow):
            yield Mistake(f"{path}.use", "is not among the parts of fedsep that a site runs for a server", use)
        if arguments.get("secret") is not None:
            yield Mistake(
                f"{path}.secret", "is none once it is sent: leave it out, and each client draws its own noise"
            )
        for name in PLACES:
            if arguments.get(name) is not None:
                yield Mistake(f"{path}.{name}", "is for the site to say, not for the server", repr(arguments[name]))
        if arguments.get("download"):
            yield Mistake(f"{path}.download", "is not for the server to ask of a site")


def _named(recipe: Recipe) -> Iterator[tuple[str, str, Any, Mapping[str, Any]]]:
    """Every function that a recipe names, with where and with its arguments."""
    calls = {"data": recipe.data, "model": recipe.model, "task": recipe.task}
    for path, call in [*calls.items(), *((f"methods.{name}", call) for name, call in recipe.methods.items())]:
        yield from _inside(call, path)


def _inside(value: Any, path: str) -> Iterator[tuple[str, str, Any, Mapping[str, Any]]]:
    match value:
        case Call():
            yield path, value.use, value.target, value.arguments
            for name, part in value.arguments.items():
                yield from _inside(part, f"{path}.{name}")
        case Reference():
            yield path, value.path, value.function, _called_with(value.function)
        case dict():
            for name, part in value.items():
                yield from _inside(part, f"{path}.{name}")
        case list() | tuple():
            for i, part in enumerate(value):
                yield from _inside(part, f"{path}.{i}")
        case _:
            return


def _called_with(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Of a function that is handed over, the arguments that whoever calls it could take for a place on a disk."""
    try:
        taken = inspect.signature(function).parameters
    except ValueError:  # of a builtin Python does not know any
        return {}
    return {name: "a function that reads files" for name in taken if name in PLACES}


def parts() -> dict[str, Callable[..., Any]]:
    """The parts that recipes are made of, by their paths."""
    paths = (path for package in PARTS for path in public_names(f"fedsep.{package}"))
    return {path: resolve(path) for path in (*paths, *MORE)}


@cache
def _offered() -> frozenset[int]:
    """The parts, however a path leads to them; by identity, since not all can be hashed."""
    return frozenset(map(id, parts().values()))


def _require_form(data: Here, declared: Sites) -> None:
    """The data are of the form that the recipe says.

    Raises:
        FedSepError: With every difference.
    """
    wrong = [
        f"{name} is {there!r} here and {said!r} in the recipe"
        for name, there, said in (
            ("shape", tuple(data.shape), declared.shape),
            ("classes", data.classes, declared.classes),
            ("kind", "regression" if data.train.y.is_floating_point() else "classification", declared.kind),
        )
        if there != said
    ]
    if wrong:
        raise FedSepError(f"this site's data are not of the recipe's form: {'; '.join(wrong)}")
