"""The command line in the processes of torchrun: rank 0 carries a command out, the others work for its runs."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from fedsep.cli.entry import DONE, FAILED
from fedsep.cli.hand import Setting
from fedsep.cli.options import importable
from fedsep.core import FedSepError
from fedsep.engines.line import BYE
from fedsep.engines.notes import READY, TODO
from fedsep.engines.ranks import Group, Place, meet, met, orphaned, place
from fedsep.engines.together import followed, within
from fedsep.engines.torchrun import Torchrun, how_to_start
from fedsep.errors import LostRank, RunFailed
from fedsep.recipes import Experiment, Recipe, Sources, build, from_tree


class Order(NamedTuple):
    """A run that all ranks are to work for: its recipe in plain values, and what numbers depend on beside it."""

    tree: dict[str, Any]
    file: str
    allow: tuple[str, ...]
    method: str
    seed: int
    sources: Sources
    setting: Setting


def lead(where: Place, command: Callable[[], int]) -> int:
    """Rank 0: carries a command out, and lets the others go; the exit code."""
    group = meet(where)
    code = FAILED
    try:
        code = command()
    finally:
        if not group.leave():  # a rank that does not answer must not keep this one
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return code


def follow(where: Place) -> int:
    """Any other rank: does what rank 0 asks for, says nothing, and ends with it; the exit code."""
    warnings.simplefilter("ignore")
    logging.getLogger("fedsep").setLevel(logging.ERROR)
    group = meet(where)
    group.busy = True
    built: dict[str, Experiment] = {}
    try:
        while True:
            news = group.hear()
            assert news is not None
            if news.note[0] == TODO:
                _work(group, news.note[1], built)
            elif news.note[0] == BYE:
                return DONE
    except LostRank:
        orphaned(where)
        return FAILED


def announce(recipe: Recipe, method: str, seed: int, sources: Sources) -> None:
    """Rank 0: tells the others of a run that is about to begin."""
    group = met()
    if group is not None:
        tree, setting = recipe.resolved(), Setting.here()
        group.tell((TODO, Order(tree, recipe.file, recipe.allow, method, seed, sources, setting)))


def suit(recipe: Recipe, jobs: int = 1) -> None:
    """Refuses a recipe whose engine is not the one for the way in which this process was started.

    Raises:
        FedSepError: With what to type instead.
    """
    where, engine = place(), within(recipe.engine.build({}))
    if where is None:
        if isinstance(engine, Torchrun):
            raise FedSepError(f"engine: {how_to_start()}")
        return
    if where.ranks > 1 and not hasattr(engine, "follow"):
        raise FedSepError(
            f"engine: torchrun started {where.ranks} processes, of which {recipe.engine.use} would use one: add "
            "--engine torchrun, or start fedsep without torchrun"
        )
    if where.ranks > 1 and jobs > 1:
        raise FedSepError("--jobs: under torchrun all processes work on one run at a time: use --jobs 1")


def _work(group: Group, order: Order, built: dict[str, Experiment]) -> None:
    """One run; a mistake that only this rank has (data that are not here) is rank 0's to tell."""
    order.setting.on(group.place.local).use()
    try:
        experiment = _experiment(order, built)
        engine = experiment.recipe.engine.build({})
        followed(engine, experiment.algorithms[order.method], experiment.task, experiment.federation)
    except RunFailed:  # rank 0 says why
        return
    except FedSepError as error:
        group.lines[0].send((READY, str(error)))


def _experiment(order: Order, built: dict[str, Experiment]) -> Experiment:
    """What the runs of one recipe and seed share is built once."""
    key = json.dumps([order.tree, order.seed], sort_keys=True, default=str)
    if key not in built:
        importable(order.allow)
        recipe = from_tree(order.tree, order.file, allow=order.allow)
        built.clear()
        built[key] = build(recipe, order.seed, order.sources)
    return built[key]
