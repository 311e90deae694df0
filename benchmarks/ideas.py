"""Looks for settings of the quantised sketch that need fewer bytes: many runs at once, all clients of all runs stacked.

A run here is ``fedsep_quantised`` written again for many runs at a time (an orthonormal Hartley transform under random
signs instead of the DCT), with switches for what is being tried. It serves to choose, on validation data and seeds 100
to 102, one each round of trials; what is chosen is confirmed by the library itself (``benchmarks.records``).

Usage: python -m benchmarks.ideas ROUND [--device cuda] [--rounds 200] [--out records/ideas_ROUND.json]
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import vmap

from benchmarks.ideas_tried import ROUNDS, Idea
from fedsep import data, models, tasks
from fedsep.environment import environment

CLIENTS, STEPS, BATCH = 10, 5, 64
ROWS = 1000  # validation images in one pass
LEVELS = {1: ((), (0.7979,)), 2: ((0.9816,), (0.4528, 1.5104))}  # Lloyd-Max: boundaries and levels of |z|


@dataclass
class Stage:
    """Data of both splits, dealt to ten clients, and the model."""

    x: dict[str, Tensor]
    y: dict[str, Tensor]
    validation: tuple[Tensor, Tensor]
    start: Tensor
    loss: Callable[..., Tensor]
    predict: Callable[..., Tensor]
    layers: Tensor

    @classmethod
    def make(cls, device: str) -> Stage:
        """MNIST, 5,000 images held out, and the four-layer CNN."""
        x, y = {}, {}
        for split, rule in {"iid": data.iid(), "k2": data.classes(2)}.items():
            fleet = data.mnist(clients=CLIENTS, partition=rule, validation=5000)
            train = [fleet.shard(client).train for client in range(CLIENTS)]
            least = min(part.size for part in train)
            every = [part.take(slice(least)) for part in train]
            x[split] = torch.stack([batch.x for batch in every]).to(device)
            y[split] = torch.stack([batch.y for batch in every]).to(device)
        held = fleet.validation
        assert held is not None
        task = tasks.classification(models.cnn(fleet.shape, fleet.classes))
        params = task.init()
        sizes = {name: part.numel() for name, part in params.items()}
        names = torch.cat([torch.full((size,), n) for n, size in enumerate(sizes.values())]).to(device)

        def unravel(vector: Tensor) -> dict[str, Tensor]:
            parts = vector.split(list(sizes.values()))
            return {name: part.view(params[name].shape) for (name, _), part in zip(sizes.items(), parts, strict=True)}

        def loss(vector: Tensor, images: Tensor, labels: Tensor) -> Tensor:
            return F.cross_entropy(task.predict(unravel(vector), images), labels)

        whole = held.all()
        validation = whole.x.to(device), whole.y.to(device)
        start = torch.cat([part.reshape(-1) for part in params.values()]).to(device)
        return cls(x, y, validation, start, loss, lambda v, images: task.predict(unravel(v), images), names)


def play(stage: Stage, ideas: Sequence[Idea], rounds: int, seed: int) -> list[dict[str, Any]]:
    """All ideas at once; validation accuracy of the model and of its running average at four points."""
    device, runs, d = stage.start.device, len(ideas), stage.start.numel()
    draw = torch.Generator(device).manual_seed(seed)
    most = max(idea.widest for idea in ideas)
    model = stage.start.repeat(runs, 1)
    average, moved, energy = model.clone(), torch.zeros_like(model), torch.zeros_like(model)
    x, sent, error = (
        torch.zeros(*shape, device=device) for shape in ((runs, most), (runs, most), (runs, CLIENTS, most))
    )
    signs, rows = torch.ones_like(model), torch.zeros(runs, most, dtype=torch.long, device=device)
    kept = torch.zeros(runs, most, dtype=torch.bool, device=device)
    results: list[dict[str, Any]] = [{**asdict(idea), "seed": seed, "bytes": idea.bytes} for idea in ideas]
    for number in range(rounds):
        fresh = torch.tensor([number % idea.period == 0 for idea in ideas], device=device)
        if fresh.any():
            flips = torch.randint(0, 2, model.shape, generator=draw, device=device) * 2.0 - 1
            places = torch.rand(runs, d, generator=draw, device=device).topk(most).indices
            widths = torch.tensor([idea.width(number, rounds) for idea in ideas], device=device)
            signs = torch.where(fresh[:, None], flips, signs)
            rows = torch.where(fresh[:, None], places, rows)
            kept = torch.where(fresh[:, None], torch.arange(most, device=device) < widths[:, None], kept)
            x, sent = x * ~fresh[:, None], sent * ~fresh[:, None]
            error = error * ~fresh[:, None, None]
        weights = _weights(stage, ideas, energy)
        lr = _column(device, [idea.local_rate(number, rounds) for idea in ideas])
        change = _learn(stage, ideas, model, lr, draw)
        coded = _seen(change * weights[:, None], signs, rows) * kept[:, None] + error
        turn = _turns(ideas, most, number, device) & kept[:, None]
        told = torch.stack([idea_code(c, turn[i], ideas[i], up=True) for i, c in enumerate(coded)])
        forgets = torch.tensor([idea.forgets for idea in ideas], device=device)[:, None, None]
        error = torch.where(forgets & ~turn, error, coded - told)
        count = torch.where(forgets[:, 0], turn.sum(1).clamp_min(1), CLIENTS)
        x = x + _column(device, [idea.rate(d, number, rounds) for idea in ideas]) * told.sum(1) / count
        ahead = x - sent
        news = torch.stack([idea_code(a[None], kept[i], ideas[i], up=False)[0] for i, a in enumerate(ahead)])
        sent = sent + news
        step = weights * _lifted(news * kept, signs, rows, d)
        moved = step + _column(device, [idea.momentum for idea in ideas]) * moved
        model = model + moved
        energy = 0.9 * energy + 0.1 * step.square()
        average = 0.8 * average + 0.2 * model
        if (number + 1) % max(1, rounds // 4) == 0:
            for name, of in (("accuracy", model), ("average", average)):
                for result, value in zip(results, _accuracy(stage, of), strict=True):
                    result.setdefault(name, []).append(round(value, 4))
    return results


def _turns(ideas: Sequence[Idea], most: int, number: int, device: torch.device) -> Tensor:
    """Which coordinates each client sends in a round: one of every ``parts``, in turn."""
    place = torch.arange(most, device=device) + torch.arange(CLIENTS, device=device)[:, None] + number
    return torch.stack([place % idea.parts == 0 for idea in ideas])


def _column(device: torch.device, values: Sequence[float]) -> Tensor:
    return torch.tensor(values, device=device)[:, None]


def _weights(stage: Stage, ideas: Sequence[Idea], energy: Tensor) -> Tensor:
    """Factors of the coordinates, of mean square 1, from what the messages have moved so far."""
    found = torch.ones_like(energy)
    for i, idea in enumerate(ideas):
        count = torch.bincount(stage.layers)
        if idea.weights and energy[i].any():
            share = energy[i]
            if idea.weights == "layer":
                share = (torch.bincount(stage.layers, share) / count)[stage.layers]
            if idea.weights == "size":
                share = 1.0 / count[stage.layers]
            root = (share / share.mean()).clamp(1e-2, 1e2) ** (idea.power / 2)
            found[i] = root / root.square().mean().sqrt()
    return found


def _learn(stage: Stage, ideas: Sequence[Idea], model: Tensor, lr: Tensor, draw: torch.Generator) -> Tensor:
    """y_I - y_0 of every client of every run, shape (runs, clients, d)."""
    runs, device = len(ideas), model.device
    size = next(iter(stage.y.values())).shape[1]
    index = torch.rand(runs * CLIENTS, size, generator=draw, device=device).topk(STEPS * BATCH).indices
    owner = torch.arange(CLIENTS, device=device)[:, None]
    images, labels = [], []
    for i, idea in enumerate(ideas):
        own = index[i * CLIENTS : (i + 1) * CLIENTS]
        images.append(stage.x[idea.split][owner, own])
        labels.append(stage.y[idea.split][owner, own])
    image, label = torch.cat(images), torch.cat(labels)
    start = model.repeat_interleave(CLIENTS, 0)
    y, rate = start, lr.repeat_interleave(CLIENTS, 0)
    loss = _each(stage.loss, device)
    for step in range(STEPS):
        here = slice(step * BATCH, (step + 1) * BATCH)
        leaf = y.detach().requires_grad_()
        [gradient] = torch.autograd.grad(loss(leaf, image[:, here], label[:, here]).sum(), [leaf])
        y = y - rate * gradient
    return (y - start).view(runs, CLIENTS, -1)


def _each(of: Callable[..., Tensor], device: torch.device) -> Callable[..., Tensor]:
    """``of`` for every row: one after the other on a CPU, whose grouped convolutions take ten times as long."""
    if device.type == "cuda":
        return vmap(of)
    return lambda *rows: torch.stack([of(*row) for row in zip(*rows, strict=True)])


def _hartley(v: Tensor) -> Tensor:
    """An orthonormal symmetric transform."""
    spectrum = torch.fft.fft(v)
    return (spectrum.real - spectrum.imag) / math.sqrt(v.shape[-1])


def _seen(change: Tensor, signs: Tensor, rows: Tensor) -> Tensor:
    mixed = _hartley(change * signs[:, None])
    return mixed.gather(-1, rows[:, None].expand(-1, CLIENTS, -1))


def _lifted(news: Tensor, signs: Tensor, rows: Tensor, d: int) -> Tensor:
    return signs * _hartley(torch.zeros(len(news), d, device=news.device).scatter(-1, rows, news))


def idea_code(values: Tensor, kept: Tensor, idea: Idea, *, up: bool) -> Tensor:
    """What the receiver reads of each row of ``values``."""
    bits = idea.bits_up if up else idea.bits_down
    size, here = values.abs() * kept, kept.sum(-1, keepdim=True)
    if idea.nonzeros:
        count = min(idea.nonzeros if up else idea.nonzeros_down or idea.nonzeros, int(here.max()))
        top = size.topk(count)
        level = top.values.mean(-1, keepdim=True)
        return torch.zeros_like(values).scatter(-1, top.indices, level * values.gather(-1, top.indices).sign())
    if bits == 1:
        return values.sign() * kept * (size.sum(-1, keepdim=True) / here)
    boundaries, levels = LEVELS[bits]
    scale = (size.square().sum(-1, keepdim=True) / here).sqrt() + 1e-30
    cell = torch.bucketize(size / scale, torch.tensor(boundaries, device=values.device))
    return torch.tensor(levels, device=values.device)[cell] * scale * values.sign() * kept


def _accuracy(stage: Stage, model: Tensor) -> list[float]:
    images, labels = stage.validation
    right = torch.zeros(len(model), device=model.device)
    with torch.no_grad():
        for at in range(0, len(labels), ROWS):
            part = images[at : at + ROWS]
            outputs = _each(lambda one, part=part: stage.predict(one, part), model.device)(model)
            right += (outputs.argmax(-1) == labels[at : at + ROWS]).sum(-1)
    return (right / len(labels)).tolist()


def main() -> None:
    """Plays a round of ideas, at most 32 at a time, and writes what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("round", choices=list(ROUNDS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=32)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    stage = Stage.make(options.device)
    seeds, ideas = ROUNDS[options.round]
    found: list[dict[str, Any]] = []
    began = time.perf_counter()
    for seed in seeds:
        for at in range(0, len(ideas), options.at_once):
            found += play(stage, ideas[at : at + options.at_once], options.rounds, seed)
            print(f"{len(found)} runs, {time.perf_counter() - began:.0f} s", flush=True)
            if options.out is not None:
                record = {"environment": environment(options.device, seed), "rounds": options.rounds, "runs": found}
                options.out.write_text(json.dumps(record, indent=1) + "\n")
    for run in sorted(found, key=lambda run: (run["split"], run["bytes"], -run["accuracy"][-1])):
        print(run["split"], run["bytes"], run["name"], run["seed"], run["accuracy"], run["average"])


if __name__ == "__main__":
    main()
