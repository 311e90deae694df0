"""From a checked recipe to objects: the data, the task and the algorithms of one seed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fedsep.core import Algorithm, FedSepError, Task
from fedsep.plan import Plan, task_of
from fedsep.recipes.call import Call
from fedsep.recipes.mistakes import Mistake, RecipeError, located
from fedsep.recipes.recipe import Recipe
from fedsep.suited import never_served

if TYPE_CHECKING:
    from fedsep.data import Federation


@dataclass(frozen=True)
class Sources:
    """Where data are looked for. These are the machine's affair, so they are no part of a recipe.

    Attributes:
        data_dir: Folder that is searched first; None leaves the search to the data set.
        download: Whether a data set may be fetched.
    """

    data_dir: Path | None = None
    download: bool = False


@dataclass(frozen=True)
class Experiment:
    """What the runs of one seed share, and their algorithms by name."""

    recipe: Recipe
    seed: int
    federation: Federation
    task: Task
    algorithms: Mapping[str, Algorithm[Any, Any]]


def build(
    recipe: Recipe,
    seed: int,
    sources: Sources = Sources(),
    only: frozenset[str] | None = None,
    arrange: Callable[[Any], Any] | None = None,
) -> Experiment:
    """Loads the data and builds the task and every algorithm.

    Args:
        recipe: A checked recipe.
        seed: One of its seeds.
        sources: Where data are looked for.
        only: Names of the methods to build. None: all.
        arrange: Makes of the data what is run on, as a site does that has some of the clients. None: as they are.

    Raises:
        RecipeError: What could be found only with the data: every method's mistakes at once.
        FedSepError: The data are not there or not readable.
    """
    with torch.device("cpu"):
        federation = _called(recipe, _with_sources(recipe.data, sources), _data_scope(seed, sources))
        federation = federation if arrange is None else arrange(federation)
        model = _model(recipe, seed, federation)
    federation, model = _placed(federation), _placed(model)
    told = _told(federation, "shape")
    task = _task(recipe, {"seed": seed, "model": model, **told})
    _check_task(recipe, task, federation)
    wanted = [name for name in recipe.methods if only is None or name in only]
    scope = {"seed": seed, "task": task, "clients": federation.clients, **_told(federation, "shape", "classes")}
    scope |= {"public": getattr(federation, "public", None)}
    scope |= {} if recipe.precision is None else {"precision": recipe.precision}
    algorithms, mistakes = _algorithms(recipe, wanted, scope)
    mistakes += _plan_mistakes(recipe, seed, federation, task, algorithms)
    if mistakes:
        raise recipe.error(mistakes)
    return Experiment(recipe, seed, federation, task, algorithms)


def _placed(thing: Any) -> Any:
    """A model or a federation on torch's default device."""
    device = torch.get_default_device()
    return thing if device.type == "cpu" else thing.to(device)


def _task(recipe: Recipe, scope: Mapping[str, Any]) -> Task:
    from fedsep.tasks.check_module import Impure

    try:
        return recipe.task.build(scope)
    except RecipeError as error:
        about_model = isinstance(error.__cause__, Impure)
        mistakes = [replace(mistake, path="model") if about_model else mistake for mistake in error.mistakes]
        raise recipe.error(mistakes) from error


def _check_task(recipe: Recipe, task: Task, federation: Federation) -> None:
    from fedsep.tasks import check_fit

    try:
        check_fit(task, federation.train if hasattr(federation, "train") else federation.shard(0).train)
    except FedSepError as error:
        raise recipe.error([Mistake("model", str(error))]) from error


def _algorithms(
    recipe: Recipe, names: list[str], scope: Mapping[str, Any]
) -> tuple[dict[str, Algorithm[Any, Any]], list[Mistake]]:
    """Every algorithm, started once: what does not fit the model is found before any work."""
    built: dict[str, Algorithm[Any, Any]] = {}
    mistakes: list[Mistake] = []
    for name in names:
        call = recipe.methods[name]
        try:
            with _warned(name, call):
                built[name] = call.build(scope)
            built[name].init(task_of(built[name], scope["task"]).init())
        except RecipeError as error:
            mistakes += error.mistakes
        except FedSepError as error:
            mistakes += call.mistakes(error)
    return built, mistakes


@contextmanager
def _warned(name: str, call: Call) -> Iterator[None]:
    """A factory's warnings under the name that its method has in the recipe."""
    met: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as met:
            yield
    finally:
        for each in met:
            text = str(each.message).removeprefix(f"{call.use.rpartition('.')[2]}: ")
            warnings.warn(f"methods.{name}: {text}", each.category, stacklevel=5)


def _plan_mistakes(
    recipe: Recipe, seed: int, federation: Federation, task: Task, algorithms: Mapping[str, Algorithm[Any, Any]]
) -> list[Mistake]:
    """What ``fit`` would refuse, of all the methods before the first is run."""
    settings = recipe.options()
    found: dict[Mistake, None] = {}
    for name, algorithm in algorithms.items():
        own = task_of(algorithm, task)
        plan = Plan(algorithm, own, federation, recipe.rounds, seed, states=recipe.states, name=name, **settings)
        try:
            plan.check()
        except FedSepError as error:
            mistakes = [located(line) for line in str(error).splitlines()]
            found |= dict.fromkeys(m if m.path else replace(m, path=f"methods.{name}") for m in mistakes)
        for text in never_served(algorithm, plan.evaluate):
            found[Mistake(f"methods.{name}.served", text)] = None
    return list(found)


def _called(recipe: Recipe, call: Call, scope: Mapping[str, Any]) -> Any:
    try:
        return call.build(scope)
    except RecipeError as error:
        raise recipe.error(error.mistakes) from error


def _model(recipe: Recipe, seed: int, federation: Federation) -> Any:
    """A module that is not ours draws its weights from torch's global state: that is set for the while."""
    from fedsep.models.seeded import seeded

    ours = recipe.model.use.startswith("fedsep.models.")
    with nullcontext() if ours else seeded(seed):
        return _called(recipe, recipe.model, {"seed": seed, **_told(federation, "shape", "classes")})


def _told(federation: Federation, *names: str) -> dict[str, Any]:
    """What data says of itself; a fleet of the user's own may not."""
    return {name: getattr(federation, name) for name in names if hasattr(federation, name)}


def _data_scope(seed: int, sources: Sources) -> dict[str, Any]:
    scope: dict[str, Any] = {"seed": seed, "download": sources.download}
    return scope if sources.data_dir is None else {**scope, "data_dir": sources.data_dir}


def _with_sources(call: Call, sources: Sources) -> Call:
    """What the command line says about sources wins over what the recipe says."""
    if sources.data_dir is None or "data_dir" not in call.arguments:
        return call
    return replace(call, arguments={**call.arguments, "data_dir": sources.data_dir})
