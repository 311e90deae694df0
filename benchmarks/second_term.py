"""What the second term of Eq. (8) changes: FedSep's mask with the first term alone, and with both.

MNIST pooled to 14 x 14, two classes a client, 100 clients, 10 a round, capabilities from 1 to 1/16 drawn anew every
round (the setting of recipes/heterogeneous). Each client fits gates to the whole model, keeps the ceil(p n) units of
the largest scores in each layer, trains them for an epoch, and sends its change: Diag(a) v, averaged by coverage. The
row "both" adds the mean over clients of the second term, no longer than ``--bound`` times the first; "random" adds a
random change of that size in its place; a client that keeps all units has no second term. Masks are fitted in every
round, so that each belongs to the x at which it is differentiated. Per row: validation accuracy of the full-width model
over the rounds; by capability the medians of the second term's size over the first's before it is bounded, of the
cosine of their angle and of the residual of conjugate gradients; and seconds.

Usage: python -m benchmarks.second_term [--rounds 100] [--seed 100] [--damping 1] [--bound 1] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedsep import data, models, random, tasks, tree
from fedsep.core import Ctx, Decoded, Params, Shard
from fedsep.environment import environment
from fedsep.gates import GateScores, Relaxed, bounded, gate_scores, second_term
from fedsep.learners.own_classes import OwnClasses, present
from fedsep.learners.sgd import sgd
from fedsep.models.units import kept

LEVELS = (1.0, 0.5, 0.25, 0.125, 0.0625)
CLIENTS, COHORT, CLASSES = 100, 10, 10
EXAMPLES = 200  # of D_val, in the derivatives


@dataclass(frozen=True)
class Setting:
    """What the rows share."""

    fleet: Any
    scores: GateScores
    learner: OwnClasses
    damping: float
    bound: float
    steps: int


@dataclass(frozen=True)
class Change:
    """One client's, in the shapes of x."""

    first: Params
    cover: Params
    second: Params
    told: dict[str, float]


def change(setting: Setting, x: Params, shard: Shard, ctx: Ctx, row: str) -> Change:
    """Decode, learn, encode."""
    scores, table = setting.scores, setting.scores.gating.units
    phi = scores.fit(scores.init(ctx.key), x, shard, ctx)
    keep = {group: part.topk(kept(len(part), ctx.capability)).indices.sort().values
            for group, part in scores.scores(phi).items()}  # fmt: skip
    part = table.cut(x, keep)
    y, _ = setting.learner.learn(Decoded(part), shard, ctx)
    rows = present(shard.train.y, CLASSES)
    first = own(table.paste(tree.sub(y, part), x, keep), table.outputs, rows)
    cover = own(table.cover(x, keep), table.outputs, rows)
    if row == "first term" or ctx.capability == 1:  # with every unit kept the mask is 1, whatever the scores are
        return Change(first, cover, tree.zeros_like(x), {})
    inner = Relaxed(scores, scores.local(shard))
    batch = shard.train.take(random.permutation(random.fold(ctx.key, 77), shard.train.size)[:EXAMPLES])
    term = second_term(inner, inner.masked, x, phi, first, batch, damping=setting.damping, steps=setting.steps)
    one, two = float(tree.norm(first)), float(tree.norm(term.value))
    told = {"size": two / one, "cosine": float(tree.dot(first, term.value)) / max(one * two, 1e-30),
            "residual": float(term.residual)}  # fmt: skip
    second = own(bounded(term.value, first, setting.bound), table.outputs, rows)
    if row == "random":
        second = tree.scale(normal(x, ctx.key), float(tree.norm(second)))
    return Change(first, cover, second, told)


def normal(like: Params, key: Tensor) -> Params:
    """A random direction of length 1."""
    drawn = {name: random.normal(random.fold(key, 1000 + number), *part.shape)
             for number, (name, part) in enumerate(like.items())}  # fmt: skip
    return tree.scale(drawn, 1 / float(tree.norm(drawn)))


def own(params: Params, outputs: tuple[str, ...], rows: Tensor) -> Params:
    """Without the classifier's rows of classes that the client has not."""
    return {name: part * rows.to(part).reshape(-1, *(1 for _ in part.shape[1:])) if name in outputs else part
            for name, part in params.items()}  # fmt: skip


def play(setting: Setting, row: str, rounds: int, seed: int, every: int) -> dict[str, Any]:
    """All rounds of a row."""
    x, run, began = setting.scores.task.init(), random.key(seed), time.perf_counter()
    accuracies: dict[int, float] = {}
    seen: list[dict[str, float]] = []
    for number in range(rounds):
        key = random.fold(run, number)
        cohort = random.sample(random.fold(key, 1), CLIENTS, COHORT)
        levels = random.integers(random.fold(key, 2), len(LEVELS), COHORT).tolist()
        total, covers, extra = tree.zeros_like(x), tree.zeros_like(x), tree.zeros_like(x)
        for client, level in zip(cohort, levels, strict=True):
            ctx = Ctx(number, LEVELS[level], random.fold(key, 1000 + client))
            one = change(setting, x, setting.fleet.shard(client), ctx, row)
            total, covers = tree.add(total, one.first), tree.add(covers, one.cover)
            extra = tree.add(extra, one.second)
            seen += [{**one.told, "capability": ctx.capability}] if one.told else []
        mean = {name: part / covers[name].clamp_min(1.0) for name, part in total.items()}
        x = tree.add(tree.add(x, mean), extra, 1 / COHORT)
        if (number + 1) % every == 0 or number + 1 == rounds:
            accuracies[number + 1] = accuracy(setting, x)
            print(f"{row}: round {number + 1}, {accuracies[number + 1]:.4f}", flush=True)
    return {"row": row, "validation_accuracy": accuracies, "seconds": time.perf_counter() - began,
            "by_capability": by_capability(seen)}  # fmt: skip


def by_capability(seen: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Medians over all clients and rounds."""
    found: dict[str, dict[str, float]] = {}
    for level in LEVELS:
        here = [each for each in seen if each["capability"] == level]
        if here:
            found[str(level)] = {name: float(torch.tensor([each[name] for each in here]).median())
                                 for name in ("size", "cosine", "residual")}  # fmt: skip
    return found


def accuracy(setting: Setting, x: Params) -> float:
    """Of the full-width model on all validation images."""
    batch = setting.fleet.validation.all()
    with torch.no_grad():
        return float((setting.scores.task.predict(x, batch.x).argmax(1) == batch.y).double().mean())


def main() -> None:
    """Trains every row and writes the record as it goes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--damping", type=float, default=1.0)
    parser.add_argument("--bound", type=float, default=1.0, help="the second term's size over the first's")
    parser.add_argument("--steps", type=int, default=20, help="of conjugate gradients")
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--form", choices=["hypernetwork", "free"], default="hypernetwork")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    fleet = data.mnist(clients=CLIENTS, partition=data.classes(2), validation=5000)
    task = tasks.classification(models.small_cnn(fleet.shape, CLASSES), shape=fleet.shape)
    learner = OwnClasses(sgd(task, lr=0.3, epochs=1, batch_size=50, clip=1.0), CLASSES)
    scores = gate_scores(task, form=options.form, classes=CLASSES)
    setting = Setting(fleet, scores, learner, options.damping, options.bound, options.steps)
    rows: list[dict[str, Any]] = []
    for row in ("first term", "both", "random"):
        rows.append(play(setting, row, options.rounds, options.seed, options.every))
        if options.out is not None:
            settings = {name: str(value) for name, value in vars(options).items()}
            record = {"environment": environment("sequential", options.seed), **settings, "rows": rows}
            options.out.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
