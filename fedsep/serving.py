"""Which model a server would serve: the whole one, or a narrower or sparser one that is better on validation data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fedsep.calibrating import batches, spread, with_statistics
from fedsep.core import Params, Task
from fedsep.engines.engine import Fleet, Metrics, Session, Split
from fedsep.options import Evaluate

SPLITS: tuple[Split, ...] = ("validation", "test")


class Judge(NamedTuple):
    """What it takes to judge parameters.

    Attributes:
        task: Gives the metrics.
        fleet: Has the data.
        session: Runs the model.
        options: Say which.
    """

    task: Task
    fleet: Fleet
    session: Session
    options: Evaluate

    def ready(self, params: Params) -> Params:
        """With the statistics that evaluation needs."""
        if self.options.statistics == "testbatch":
            return params
        return with_statistics(self.task, params, lambda: of_fleet(self.fleet, self.options.calibration))

    def metrics(self, params: Params, split: Split) -> Metrics:
        """Of one of the server's sets; empty if there is none."""
        samples = getattr(self.fleet, split)
        if samples is None or not samples.size:
            return {}
        return self.task.metrics(self.session.predict(params, split), samples.y)


def of_fleet(fleet: Fleet, count: int) -> Sequence[Tensor]:
    """Inputs of ``count`` training examples or a few more, as many from each client, in batches of mixed clients."""
    clients = range(0, fleet.clients, max(1, fleet.clients // count))
    shards = [fleet.shard(client).train for client in clients]
    each = -(-count // len(shards))
    return batches(torch.cat([spread(shard, each) for shard in shards]))


class Densities(NamedTuple):
    """Shares of its weights at which a model may be served, and what makes one of a share, where it has several."""

    shares: tuple[float, ...] = ()
    sparser: Callable[[Params, float], Params] = lambda params, _: params


def densities(algorithm: Any) -> Densities:
    """Those of a method; none where its model is served as it is."""
    shares: tuple[float, ...] = getattr(algorithm, "densities", ())
    return Densities(shares, algorithm.sparser) if len(shares) > 1 else Densities()


def judged(
    judge: Judge,
    params: Params,
    narrower: Callable[[float], Params],
    name: str = "",
    sparse: Densities = Densities(),
) -> dict[str, float]:
    """Columns ``validation_NAMEaccuracy``, ``test_NAMEaccuracy``, and with widths also ``..._served_...``.

    With levels also ``test_NAMElevel_0.5_accuracy``, of the sub-model of each share.

    What is served is the width that is best by the task's first metric on validation data, the wider of equals; or the
    best of several densities, where there are some. The test set is then met once, by this model.

    Args:
        judge: What it takes.
        params: Of the whole model.
        narrower: The sub-model of a share of the units.
        name: Put before the names of metrics.
        sparse: Densities at which the whole model may be served.
    """
    whole = judge.ready(params)
    served, levels = judge.options.served, judge.options.levels or ()
    models = {width: whole if width == 1 else judge.ready(narrower(width)) for width in {1.0, *served, *levels}}

    @cache  # a width may be whole, a level and served at once
    def metrics(width: float, split: Split) -> Metrics:
        return judge.metrics(models[width], split)

    columns = _named({split: metrics(1.0, split) for split in SPLITS}, name)
    for width in sorted(levels, reverse=True):
        columns |= _named({"test": metrics(width, "test")}, f"{name}level_{width:g}_")
    if served and sparse.shares:
        return columns | {f"{name}served_width": 1.0} | _at_density(judge, params, whole, name, sparse)
    if not served:
        return columns
    chosen = _best(judge.task, {width: metrics(width, "validation") for width in sorted(served, reverse=True)})
    best = {split: metrics(chosen, split) for split in SPLITS}
    return columns | _named(best, f"{name}served_") | {f"{name}served_width": chosen}


def _at_density(judge: Judge, params: Params, whole: Params, name: str, sparse: Densities) -> dict[str, float]:
    """The best of several densities by validation data, and its metrics; the whole model is that of the largest."""
    models = {share: judge.ready(sparse.sparser(params, share)) for share in sparse.shares[1:]}
    models[sparse.shares[0]] = whole
    chosen = best_width(judge, models)
    best = {split: judge.metrics(models[chosen], split) for split in SPLITS}
    return _named(best, f"{name}served_") | {f"{name}served_density": chosen}


def best_width(judge: Judge, models: Mapping[float, Params]) -> float:
    """The share, of units or of weights, whose model has the best first metric on validation data, or the larger."""
    return _best(
        judge.task, {width: judge.metrics(models[width], "validation") for width in sorted(models, reverse=True)}
    )


def _best(task: Task, found: dict[float, Metrics]) -> float:
    """The width with the best first metric; what is no number is worse than any."""
    first = next(iter(next(iter(found.values()))))
    sign = 1 if getattr(task, "higher_is_better", {}).get(first, first == "accuracy") else -1

    def merit(width: float) -> float:
        value = float(found[width][first])
        return sign * value if math.isfinite(value) else -math.inf

    return max(found, key=merit)


def _named(found: Mapping[str, Metrics], name: str) -> dict[str, float]:
    return {f"{split}_{name}{metric}": float(value) for split, each in found.items() for metric, value in each.items()}


def mistakes(fleet: Fleet, options: Evaluate) -> list[str]:
    """Why a served width cannot be chosen."""
    if not options.served or (fleet.validation is not None and fleet.validation.size):
        return []
    return ["evaluate.served needs validation data to choose a width by: set validation of the data (got none)"]


def averaged(before: Params | None, now: Params, keep: float) -> Params:
    """The exponential average of parameters: keep * before + (1 - keep) * now; ``now`` at first."""
    if before is None:
        return {name: part.clone() for name, part in now.items()}
    return {name: before[name].lerp(part, 1 - keep) for name, part in now.items()}
