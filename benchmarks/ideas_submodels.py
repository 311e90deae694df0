"""Looks for a reduction of sub-models' changes that is better than averaging by importance.

Every idea is HeteroFL (nested sub-models) but for what its row says; controls stand beside them. MNIST pooled to 14 x
14, 100 clients, 10 a round, 100 rounds, as in Table 1 at the small scale. What is compared is validation accuracy of
the server's model at the width that would be served, and of its running average, each the mean of the last ten
evaluations, over seeds 100 to 102. Test data are not looked at.

Usage: python -m benchmarks.ideas_submodels [--settings k2 k2_weak ...] [--ideas NAME ...] [--seeds 100 101 102]
       [--jobs 2] [--rounds 100] [--out records/submodel_ideas.json]      (what is in the file is not run again)
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedsep import Cohort, Evaluate, FedSep, algorithms, data, engines, fit, models, servers, tasks, tree
from fedsep.core import Ctx, Params, Task, Update
from fedsep.environment import environment
from fedsep.learners.weighing import relative
from fedsep.paper.table1.scales import SCALES
from fedsep.views.submodel import Importance, Submodel

SETTINGS = {part.name.removeprefix("mnist_"): part for part in SCALES["small"].settings if part.data == "mnist"}
"""Those of Table 1."""
LAST = 10
LOCAL: dict[str, Any] = {"lr": 0.3, "epochs": 1, "batch_size": 50, "clip": 1.0}


@dataclass(frozen=True)
class Shaped(Importance):
    """Importance to a power, times capability to a power; ``raw``: not relative to the client's other units."""

    sharpness: float = 1.0
    strength: float = 1.0
    raw: bool = False

    def weights(self, told: Mapping[str, Tensor], ctx: Ctx) -> dict[str, Tensor]:
        """One number for each of the client's units."""
        found = dict(told) if self.raw else relative(dict(told))
        return {group: part**self.sharpness * ctx.capability**self.strength for group, part in found.items()}


@dataclass(frozen=True)
class Agreeing:
    """A server that gives a client's row of a tensor more weight, the more it points where the last step went."""

    server: Any
    floor: float = 0.1

    def init(self, x: Params) -> tuple[Any, Params]:
        """The server's state, and no step so far."""
        return self.server.init(x), tree.zeros_like(x)

    def step(self, x: Params, updates: Iterable[Update], state: tuple[Any, Params]) -> tuple[Params, Any]:
        """The server's step on reweighted changes."""
        inner, last = state
        after, inner = self.server.step(x, self._weighed(updates, last), inner)
        return after, (inner, tree.sub(after, x))

    def _weighed(self, updates: Iterable[Update], last: Params) -> Iterator[Update]:
        for update in updates:
            cover: Params = update.cover or {}
            yield update._replace(cover={name: part * self._rows(update.value[name], last[name], part)
                                         for name, part in cover.items()})  # fmt: skip

    def _rows(self, change: Tensor, last: Tensor, cover: Tensor) -> Tensor:
        rows = [part.reshape(len(part), -1) for part in (change, last * (cover > 0))]
        like = torch.nn.functional.cosine_similarity(*rows, dim=1, eps=1e-20)
        return (self.floor + (1 + like) / 2).reshape(-1, *(1 for _ in change.shape[1:]))


@dataclass(frozen=True)
class Balanced:
    """A server that weighs clients so that the classes of a round weigh alike, whoever happens to take part.

    A client's classes are the rows of the last layer that it moves. Its weight is the mean of 1 / (clients of the round
    that have the class) over its classes; with ``ridge`` the weights that come closest to an even mixture of the
    classes that are there, and that far from equal ones, none below a tenth.
    """

    server: Any
    rows: str
    ridge: float | None = None

    def init(self, x: Params) -> Any:
        """The server's state."""
        return self.server.init(x)

    def step(self, x: Params, updates: Iterable[Update], state: Any) -> tuple[Params, Any]:
        """The server's step on reweighted changes."""
        every = list(updates)
        shares = torch.stack([class_shares(update, self.rows) for update in every])
        weights = inverse_frequency(shares) if self.ridge is None else evened(shares, self.ridge)
        pairs = zip(every, weights.tolist(), strict=True)
        return self.server.step(x, [update._replace(weight=update.weight * by) for update, by in pairs], state)


def class_shares(update: Update, rows: str) -> Tensor:
    """The client's classes, as shares that sum to 1; K of them are alike."""
    cover: Params = update.cover or {}
    own = (cover[rows] > 0).to(torch.get_default_dtype())
    return own / own.sum().clamp_min(1.0)


def inverse_frequency(shares: Tensor) -> Tensor:
    """Weights with mean 1."""
    found = (shares / (shares > 0).sum(0).clamp_min(1)).sum(1)
    return found / found.mean()


def evened(shares: Tensor, ridge: float) -> Tensor:
    """min |shares^T w - M u|^2 + ridge |w - 1|^2, u even over the classes that are there; no weight below .1."""
    there = (shares.sum(0) > 0).to(shares.dtype)
    goal = len(shares) * there / there.sum()
    system = shares @ shares.T + ridge * torch.eye(len(shares))
    return torch.linalg.solve(system, shares @ goal + ridge).clamp_min(0.1)


@dataclass(frozen=True)
class Remembering:
    """A server that averages over classes what each class's clients did last; what is older weighs less each round.

    Attributes:
        rows: The parameter whose rows are classes.
        fade: Weight of what a class left in the round before, of a class that nobody has in this one.
        lr: Of the server.
    """

    rows: str
    fade: float = 0.7
    lr: float = 1.0

    def init(self, x: Params) -> tuple[Params, Params]:
        """By class: means of changes, and what they weigh."""
        zero = {name: part.new_zeros(10, *part.shape) for name, part in x.items()}
        return zero, zero

    def step(self, x: Params, updates: Iterable[Update], state: tuple[Params, Params]) -> tuple[Params, Any]:
        """x plus the mean over classes."""
        total, weight = tree.zeros_like(state[0]), tree.zeros_like(state[0])
        for update in updates:
            share, cover = class_shares(update, self.rows), update.cover or {}
            for name, part in update.value.items():
                own = share.reshape(-1, *(1 for _ in part.shape))
                total[name] += own * (part * cover[name])
                weight[name] += own * cover[name]
        means = {name: torch.where(weight[name] > 0, part / weight[name].clamp_min(1e-30), state[0][name])
                 for name, part in total.items()}  # fmt: skip
        weighs = {name: torch.where(part > 0, 1.0, self.fade * state[1][name]) for name, part in weight.items()}
        moved = {name: x[name] + self.lr * (weighs[name] * part).sum(0) / weighs[name].sum(0).clamp_min(1e-30)
                 for name, part in means.items()}  # fmt: skip
        return moved, (means, weighs)


Make = Callable[[Task], FedSep]


def balanced(task: Task, reduce: Any = "importance", ridge: float | None = None, server: Any = None) -> FedSep:
    """HeteroFL with weights by the round's classes."""
    method = algorithms.heterofl(task, reduce=reduce, server=server, **LOCAL)
    return replace(method, server=Balanced(method.server, "head.bias", ridge))


def remembering(task: Task, **how: Any) -> FedSep:
    """HeteroFL with importances and a mean over classes."""
    method = algorithms.heterofl(task, reduce="importance", **LOCAL)
    return replace(method, server=Remembering("head.bias", **how))


def shaped(task: Task, **how: Any) -> FedSep:
    """HeteroFL whose importances are put to use in another way."""
    method = algorithms.heterofl(task, reduce="importance", **LOCAL)
    assert isinstance(method.view, Submodel)
    return replace(method, view=replace(method.view, importance=Shaped(**how)))


def agreeing(task: Task, reduce: Any) -> FedSep:
    """HeteroFL with weights by agreement with the last step."""
    method = algorithms.heterofl(task, reduce=reduce, **LOCAL)
    return replace(method, server=Agreeing(method.server))


def plain(name: str, **how: Any) -> Make:
    """A method of the library."""
    return lambda task: getattr(algorithms, name)(task, **LOCAL, **how)


def _shape(**how: Any) -> Make:
    return functools.partial(shaped, **how)


IDEAS: dict[str, Make] = {
    "heterofl": plain("heterofl"),
    "importance": plain("heterofl", reduce="importance"),
    "half and more": plain("exclude", least=0.5),
    "half and more, importance": plain("exclude", least=0.5, reduce="importance"),
    "capability squared": _shape(strength=2.0),
    "capability to the 3": _shape(strength=3.0),
    "capability left out": _shape(strength=0.0),
    "importance squared": _shape(sharpness=2.0),
    "root of importance": _shape(sharpness=0.5),
    "importance squared, capability squared": _shape(sharpness=2.0, strength=2.0),
    "raw importance": _shape(raw=True),
    "raw importance squared": _shape(raw=True, sharpness=2.0),
    "importance, server momentum .5": plain("heterofl", reduce="importance", server=servers.sgd(lr=0.5, momentum=0.5)),
    "importance, server momentum .9": plain("heterofl", reduce="importance", server=servers.sgd(lr=0.1, momentum=0.9)),
    "importance, server rate 1.5": plain("heterofl", reduce="importance", server=servers.sgd(lr=1.5)),
    "agreement": functools.partial(agreeing, reduce="coverage_mean"),
    "importance and agreement": functools.partial(agreeing, reduce="importance"),
    "classes balanced": functools.partial(balanced, reduce="coverage_mean"),
    "classes balanced, importance": balanced,
    "classes evened, importance": functools.partial(balanced, ridge=0.1),
    "classes evened gently, importance": functools.partial(balanced, ridge=0.5),
    "classes evened, importance, server momentum .5":
        functools.partial(balanced, ridge=0.1, server=servers.sgd(lr=0.5, momentum=0.5)),
    "classes remembered, importance": remembering,
    "classes remembered for one round, importance": functools.partial(remembering, fade=0.0),
    "one plan by Taylor, importance": plain("fedsep_shared", scores="taylor", reduce="importance"),
    "one plan by gates, importance": plain("fedsep_shared", scores="gates", reduce="importance"),
    "two clusters, importance": plain("fedsep_shared", scores="taylor", reduce="importance", clusters=2),
    "one plan, half rolls, importance": plain("fedsep_shared", scores="taylor", reduce="importance", rolling=0.5),
    "one slow plan, importance": plain("fedsep_shared", scores="taylor", reduce="importance", memory=0.98),
    "fedrolex, importance": plain("fedrolex", reduce="importance"),
}  # fmt: skip


def run(setting: str, idea: str, seed: int, rounds: int) -> dict[str, Any]:
    """One run: means of the last evaluations on validation data."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    of = SETTINGS[setting]
    validation, public = of.held_out
    deal = data.classes(of.k, **of.partition)
    fleet = data.mnist(clients=of.clients, partition=deal, validation=validation, public=public, seed=seed)
    task = tasks.classification(models.small_cnn(fleet.shape, fleet.classes, seed=seed), shape=fleet.shape)
    found = fit(
        IDEAS[idea](task),
        task,
        fleet,
        rounds=rounds,
        seed=seed,
        cohort=Cohort(of.per_round, of.capabilities, draw=of.draw),  # type: ignore[arg-type]
        engine=engines.sequential(),
        evaluate=Evaluate(rounds=[r for r in of.evaluated if r <= rounds], served=of.levels, average=0.8),
    )
    columns = ("validation_served_accuracy", "validation_average_served_accuracy", "validation_served_width")
    rows = [row for row in found.metrics if columns[0] in row][-LAST:]
    means = {name: round(sum(row[name] for row in rows) / len(rows), 4) for name in columns if name in rows[0]}
    seconds = round(time.perf_counter() - began, 1)
    return {"setting": setting, "idea": idea, "seed": seed, "rounds": rounds, **means, "seconds": seconds}


def main() -> None:
    """Runs what is asked for and not in the file yet, several at a time; writes as they come."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", nargs="*", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--ideas", nargs="*", choices=list(IDEAS), default=list(IDEAS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[100, 101, 102])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("records/submodel_ideas.json"))
    options = parser.parse_args()
    record = json.loads(options.out.read_text()) if options.out.is_file() else {"runs": []}
    done = {(row["setting"], row["idea"], row["seed"], row["rounds"]) for row in record["runs"]}
    asked = itertools.product(options.seeds, options.settings, options.ideas)
    todo = [(s, i, seed, options.rounds) for seed, s, i in asked if (s, i, seed, options.rounds) not in done]
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for row in pool.imap_unordered(_one, todo):
            record["runs"].append(row)
            record["environment"] = environment("sequential", 0)
            options.out.write_text(json.dumps(record, indent=1) + "\n")
            print(json.dumps(row), flush=True)


def _one(asked: Sequence[Any]) -> dict[str, Any]:
    return run(*asked)


if __name__ == "__main__":
    main()
