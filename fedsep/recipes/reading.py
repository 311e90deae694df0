"""From a file to a checked recipe: read, change, look at the outer shape, bind every block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from fedsep.cohort import Cohort
from fedsep.core import Algorithm, Task
from fedsep.earlier import completed_recipe
from fedsep.engines.engine import Engine, Fleet
from fedsep.engines.faults import Faults, faulty
from fedsep.options import Accept, Checkpoint, Evaluate, Stop
from fedsep.recipes.bind import Binder, Scope
from fedsep.recipes.call import Call
from fedsep.recipes.changes import Change, apply_changes
from fedsep.recipes.mistakes import Mistake, RecipeError, shown
from fedsep.recipes.names import method_names, name_mistakes
from fedsep.recipes.recipe import Recipe
from fedsep.recipes.shape import Shape, normalised, seeds_of, shape
from fedsep.recipes.text import file_tree

BLOCKS = {
    "data": (Scope(("seed", "data_dir", "download")), Fleet),
    "model": (Scope(("seed",), {"shape": "the data", "classes": "the data"}), nn.Module),
    "task": (Scope(("seed",), {"model": "the model block", "shape": "the data"}), Task),
    "engine": (Scope(beside=("faults",)), Engine),
}
"""Blocks with ``use:``: what is filled in by name, and what they must give."""

METHOD = Scope(
    ("seed", "clients", "precision"),
    {"task": "the task block", **dict.fromkeys(("public", "shape", "classes"), "the data")},
)

SETTINGS = {"cohort": Cohort, "evaluate": Evaluate, "checkpoint": Checkpoint, "stop": Stop, "accept": Accept}
"""Blocks without ``use:``: their keys are the arguments of these."""

_WRITTEN_IF_GIVEN = ("accept",)
"""Settings that a resolved recipe has only where the recipe has them: most runs are none the wiser."""


def read(
    file: str | Path, *, changes: Sequence[Change] = (), allow: Sequence[str] = (), resolved: bool = False
) -> Recipe:
    """Reads and checks a recipe.

    Args:
        file: A YAML file.
        changes: Applied in order, before anything is checked.
        allow: Packages beside ``fedsep`` that ``use:`` may name.
        resolved: It was written for a run, by this version or an earlier one: what it does not name is as it was then.

    Raises:
        RecipeError: With every mistake that can be found without the data.
    """
    tree = file_tree(file)
    return from_tree(completed_recipe(tree) if resolved else tree, str(file), changes=changes, allow=allow)


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
    rest: Recipe | None = None
    if tree:
        tree, written, unreached = apply_changes(tree, list(changes))
        found, wrong = shape(tree)
        mistakes += [*unreached, *wrong]
        recipe, wrong = _bind(found or _lenient(tree), file, allow, written)
        if recipe and not mistakes and not wrong:
            return recipe
        rest = None if mistakes else recipe
        mistakes += wrong
    raise RecipeError(file, mistakes, written, rest)


def _lenient(tree: dict[str, Any]) -> Shape:
    """What can be bound of a recipe whose outer shape is wrong, so that its other mistakes are found too."""
    blocks: dict[str, Any] = {key: value for key, value in tree.items() if isinstance(value, dict)}
    kept = {key: blocks.get(key, {}) for key in (*BLOCKS, *SETTINGS)}
    methods = tree.get("methods")
    return Shape.model_construct(None, rounds=1, methods=methods if isinstance(methods, list) else [], **kept)


def _bind(
    found: Shape, file: str, allow: Sequence[str], written: list[tuple[str, str]]
) -> tuple[Recipe | None, list[Mistake]]:
    """The recipe of the methods that can be bound, or None, with what is wrong; missing blocks are not bound."""
    binder = Binder(allow)
    blocks: dict[str, Call] = {}
    for key, (scope, wanted) in BLOCKS.items():
        block, faults = getattr(found, key), None
        if key == "engine" and "faults" in block:
            faults = None if block["faults"] is None else _faults(binder, block["faults"])
            block = {name: part for name, part in block.items() if name != "faults"}
        call = binder.block(block, key, scope, wanted) if block else None
        blocks |= {key: call.around("faults", faults, faulty) if faults else call} if call else {}
    binder.mistakes += name_mistakes(found.methods)
    calls, unbound = _methods(binder, found.methods)
    before = len(binder.mistakes)
    binder.mistakes += _deaf(found.precision, calls)
    settings = {
        key: binder.call(target, key, getattr(found, key), key)
        for key, target in SETTINGS.items()
        if getattr(found, key) or key not in _WRITTEN_IF_GIVEN
    }
    methods = {name: call for name, call in calls.items() if name not in unbound}
    theirs = [mistake for each in unbound.values() for mistake in each]
    wrong = [*binder.mistakes[:before], *theirs, *binder.mistakes[before:]]
    if binder.mistakes or not methods or len(blocks) < len(BLOCKS):
        return None, wrong
    recipe = Recipe(
        file=file,
        name=found.name or Path(file).stem,
        seeds=seeds_of(found),
        rounds=found.rounds,
        methods=methods,
        settings=settings,
        states=found.states,
        precision=found.precision,
        changes=tuple(written),
        allow=tuple(allow),
        **blocks,
    )
    wrong += _settings_mistakes(recipe)
    return (recipe if len(wrong) == len(theirs) else None), wrong


def _methods(binder: Binder, blocks: Sequence[Any]) -> tuple[dict[str, Call], dict[str, list[Mistake]]]:
    """Methods that can be bound, by name, and what is wrong with those that are written wrong."""
    calls: dict[str, Call] = {}
    wrong: dict[str, list[Mistake]] = {}
    for name, block in zip(method_names(blocks), blocks, strict=True):
        alone = Binder(binder.allow)
        call = alone.block(_nameless(block), f"methods.{name}", METHOD, Algorithm)
        calls |= {name: call} if call else {}
        wrong |= {name: [*wrong.get(name, []), *alone.mistakes]} if alone.mistakes else {}
    return calls, wrong


def _deaf(precision: str | None, methods: Mapping[str, Call]) -> list[Mistake]:
    """Methods that a precision for all of them would not reach."""
    deaf = {} if precision is None else {n: call.use for n, call in methods.items() if not call.receives("precision")}
    reason = "does not reach methods.{}: {} has no argument precision (give it to the methods that have)"
    return [Mistake("precision", reason.format(name, use), shown(precision)) for name, use in deaf.items()]


def _faults(binder: Binder, block: Any) -> Call | None:
    """What befalls the engine's clients, whichever engine it is."""
    if isinstance(block, dict):
        return binder.call(Faults, "faults", block, "engine.faults")
    binder.mistakes.append(Mistake("engine.faults", "must be a block", shown(block)))
    return None


def _settings_mistakes(recipe: Recipe) -> list[Mistake]:
    """What the blocks without data refuse when they are built, and a cohort that is larger than the fleet."""
    mistakes = _cohort_mistakes(recipe)
    for call in (*recipe.settings.values(), recipe.engine):
        try:
            call.build({})
        except RecipeError as error:
            mistakes += error.mistakes
    return mistakes


def _cohort_mistakes(recipe: Recipe) -> list[Mistake]:
    """Where the data block says how many clients there are; otherwise only the data can tell."""
    per_round, clients = recipe.settings["cohort"].given("per_round"), recipe.data.given("clients")
    if not isinstance(per_round, int) or not isinstance(clients, int) or per_round <= clients:
        return []
    return [Mistake("cohort.per_round", f"must be at most the number of clients, {clients:,}", shown(per_round))]


def _nameless(block: Any) -> Any:
    return {key: value for key, value in block.items() if key != "name"} if isinstance(block, dict) else block
