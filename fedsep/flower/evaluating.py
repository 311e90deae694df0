"""Evaluation without central data: sites report counts and metrics, and the server puts them together."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any, TypeGuard

from fedsep.calibrating import of_samples, static_model
from fedsep.core import Params, Shard, Task
from fedsep.engines.client import predict
from fedsep.flower.letters import is_whole
from fedsep.models.calibration import Moments, finished, measure
from fedsep.models.static_norm import StaticNorm
from fedsep.serving import SPLITS
from fedsep.settle import settled
from fedsep.tasks.pure import Pure

_MOST, _LONGEST = 64, 64  # metrics of a client on a split, and characters of a name

_log = logging.getLogger("fedsep")


def judged(task: Task, params: Params, shard: Shard) -> dict[str, Any]:
    """Site: number of examples and metrics of a model on a client's own parts, by split; those that it has."""
    params = settled(params)
    found: dict[str, Any] = {}
    for split in SPLITS:
        samples = getattr(shard, split)
        if samples is not None and samples.size:
            metrics = task.metrics(predict(task, params, samples), samples.y)
            found[split] = {
                "examples": samples.size,
                "metrics": {name: float(value) for name, value in metrics.items()},
            }
    return found


def measured(task: Task, params: Params, shard: Shard, examples: int) -> dict[str, Any]:
    """Site: moments of the inputs of every static batch normalisation over some of a client's training examples."""
    model = getattr(task, "model", None)
    assert isinstance(model, Pure)
    moments = measure(model, settled(params), of_samples(shard.train, examples))
    return {"moments": {name: tuple(each[1:]) for name, each in moments.items()},
            "places": {name: each.places for name, each in moments.items()}}  # fmt: skip


def needs_statistics(task: Task) -> bool:
    """Whether a task's model is evaluated with statistics that sites can measure each for itself."""
    return static_model(task) is not None and not hasattr(task, "calibrated")


def with_moments(task: Task, params: Params, answers: Mapping[int, Mapping[str, Any]]) -> Params:
    """Server: parameters with the statistics of all clients' moments together.

    What a client tells is from outside: moments of another form, or that are not finite, are left out, and logged.
    """
    total: dict[str, Moments] = {}
    for client, answer in answers.items():
        try:
            own = _moments(task, params, answer)
        except Exception as error:
            _log.warning("the statistics of client %d are left out: %s", client, error)
            continue
        total = {name: total[name].plus(each) if name in total else each for name, each in own.items()}
    return {**params, **finished(total)}


def columns(answers: Mapping[int, Mapping[str, Any]], prefix: str = "") -> dict[str, float]:
    """Server: ``test_PREFIXaccuracy`` and the like over all clients, each with the weight of its examples.

    Of metrics that are means over examples this is the figure of all examples together; of others, such as an AUC, it
    is the mean of the clients' own.
    """
    sums: dict[str, tuple[float, int]] = {}
    for client, answer in answers.items():
        try:
            told = [(split, each) for split in SPLITS if split in answer for each in _judgement(answer[split])]
        except Exception as error:
            _log.warning("the metrics of client %d are left out: %s", client, error)
            continue
        for split, (name, value, examples) in told:
            total, count = sums.get(f"{split}_{prefix}{name}", (0.0, 0))
            sums[f"{split}_{prefix}{name}"] = total + value * examples, count + examples
    return {name: total / count for name, (total, count) in sums.items()}


def are_named(metrics: object) -> TypeGuard[dict[str, Any]]:
    """Whether these are values by name, no more and no longer names than metrics have: they become columns."""
    if not isinstance(metrics, dict) or len(metrics) > _MOST:  # pyright: ignore[reportUnknownArgumentType]
        return False
    return all(isinstance(name, str) and len(name) <= _LONGEST and name.isprintable() for name in metrics)  # pyright: ignore[reportUnknownVariableType]


def _judgement(part: Mapping[str, Any]) -> list[tuple[str, float, int]]:
    """A client's finite metrics on one split with its number of examples; an AUC needs two classes, else it is NaN."""
    examples, metrics = part["examples"], part["metrics"]
    counted = is_whole(examples, 1)
    if not counted or not are_named(metrics) or not all(type(value) is float for value in metrics.values()):
        raise ValueError("they are not of the form that sites send")
    return [(name, value, examples) for name, value in metrics.items() if math.isfinite(value * examples)]


def _moments(task: Task, params: Params, answer: Mapping[str, Any]) -> dict[str, Moments]:
    model = getattr(task, "model", None)
    assert isinstance(model, Pure)
    names = {name for name, layer in model.module.named_modules() if isinstance(layer, StaticNorm)}
    if answer["moments"].keys() != names:
        raise ValueError("they are of other normalisations than the model's")
    own = {name: Moments(answer["places"][name], *answer["moments"][name]) for name in names}
    for name, (places, total, squares) in own.items():
        shape = params[f"{name}.weight"].shape if f"{name}.weight" in params else total.shape
        if not is_whole(places, 1) or total.shape != shape or squares.shape != shape:
            raise ValueError(f"those of {name} are not of the model's shape")
        if not bool((total.isfinite() & squares.isfinite()).all()):
            raise ValueError(f"those of {name} are not finite")
    return own
