"""Small methods, tasks and fleets for the loop's tests, and engines that lose replies."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from fedsep import random, tree
from fedsep.core import Failure, Samples, Shard
from fedsep.engines.engine import Delivered
from fedsep.engines.sequential import sequential
from fedsep.train import Checkpoint, Cohort, Evaluate, Run, fit

DIMENSION = 4


@dataclass(frozen=True)
class Partition:
    hash: str = "abc"

    def save(self, path: Path) -> None:
        np.savez(path, train=np.arange(3))


@dataclass(frozen=True)
class Fleet:
    """Linear regression: every client has its own line."""

    clients: int = 7
    name: str = "lines"
    partition: Partition = Partition()

    def shard(self, client: int) -> Shard:
        x = random.normal(random.key(client), 6, DIMENSION)
        y = x @ torch.arange(1.0, DIMENSION + 1) + client % 10 / 10
        return Shard(Samples(x, y), None, Samples(x[:3], y[:3]))

    @property
    def validation(self) -> Samples:
        return self.shard(1000).train

    @property
    def test(self) -> Samples:
        return self.shard(1001).train


@dataclass(frozen=True)
class Task:
    higher_is_better: dict[str, bool] = field(default_factory=lambda: {"fit": True})

    def init(self):
        return {"w": torch.zeros(DIMENSION), "b": torch.zeros(())}

    def predict(self, params, x):
        return x @ params["w"] + params["b"]

    def loss(self, params, batch):
        return ((self.predict(params, batch.x) - batch.y) ** 2).mean()

    def metrics(self, outputs, targets):
        error = float(((outputs - targets) ** 2).mean())
        return {"mse": error, "fit": 1 / (1 + error)}


def gradient(task, params, batch):
    params = {name: part.clone().requires_grad_() for name, part in params.items()}
    loss = task.loss(params, batch)
    return loss.detach(), dict(zip(params, torch.autograd.grad(loss, list(params.values())), strict=True))


class Momentum(NamedTuple):
    x: dict
    velocity: dict
    history: list
    round: torch.Tensor
    clock: int


@dataclass(frozen=True)
class FedAvg:
    """FedAvg with server momentum; its state is a NamedTuple that grows, with a 0-dim tensor and an int."""

    task: Task = Task()
    lr: float = 0.02
    steps: int = 2
    pause: float = 0.0

    def init(self, params):
        return Momentum(params, tree.zeros_like(params), [], torch.tensor(0, dtype=torch.int32), 0)

    def broadcast(self, state, ctx):
        return state.x

    def enroll(self, payload, ctx):
        return ()

    def update(self, payload, client, shard, ctx):
        time.sleep(self.pause)
        batch = shard.train.take(random.permutation(ctx.key, shard.train.size)[:4])
        y, loss = self.descend(payload, batch)
        return tree.scale(tree.sub(y, payload), ctx.capability), client, {"loss": loss}

    def descend(self, y, batch):
        for _ in range(self.steps):
            loss, g = gradient(self.task, y, batch)
            y = tree.add(y, g, -self.lr)
        return y, loss

    def aggregate(self, state, replies):
        total, count = tree.zeros_like(state.x), 0
        for reply in replies:
            total, count = tree.add(total, reply.payload), count + 1
        velocity = tree.add(tree.scale(state.velocity, 0.5), tree.scale(total, 1 / max(count, 1)))
        x = tree.add(state.x, velocity) if count else state.x
        history = [*state.history, torch.tensor([float(count)], dtype=torch.bfloat16)][-3:]
        return Momentum(x, velocity, history, state.round + 1, state.clock + 1), {"count": torch.tensor(count)}

    def model(self, state):
        return state.x

    def local_models(self, payload, client, shard, ctx):
        return payload, self.descend(payload, shard.train.all())[0]


class Sums(NamedTuple):
    """The server's model, and all that it was ever sent, by client."""

    x: torch.Tensor
    received: dict


@dataclass(frozen=True)
class Sparse:
    """Sends the largest coordinate of what it owes and remembers the rest; reports how often it took part."""

    def init(self, params):
        return Sums(params["w"], {})

    def broadcast(self, state, ctx):
        told = torch.tensor(-1.0) if ctx.report is None else ctx.report["turns"]
        return {"x": state.x, "told": told}

    def enroll(self, payload, ctx):
        zero = torch.zeros_like(payload["x"])
        return {"error": zero, "produced": zero, "turns": torch.tensor(0.0)}

    def update(self, payload, client, shard, ctx):
        assert float(payload["told"]) == (-1.0 if ctx.seen < 0 else float(client["turns"]))  # both ends agree
        produced = random.normal(ctx.key, DIMENSION) - 0.1 * payload["x"]
        owed = client["error"] + produced
        sent = torch.where(owed.abs() == owed.abs().max(), owed, torch.zeros_like(owed))
        turns = client["turns"] + 1
        memory = {"error": owed - sent, "produced": client["produced"] + produced, "turns": turns}
        return {"value": sent, "report": {"turns": turns}}, memory, {}

    def aggregate(self, state, replies):
        x, received = state
        for reply in replies:
            value = reply.payload["value"]
            received = {**received, reply.client: received.get(reply.client, torch.zeros_like(value)) + value}
            x = x + 0.1 * value
        return Sums(x, received), {}

    def model(self, state):
        return {"w": state.x, "b": torch.zeros(())}


@dataclass(frozen=True)
class Lossy:
    """Runs the cohort and loses some replies; ``asleep``: those clients never even start."""

    lost: Callable[[int, int], bool]  # of round and client
    asleep: bool = False

    def open(self, algorithm, task, fleet, recall):
        return _LossySession(sequential().open(algorithm, task, fleet, recall), self)


@dataclass(frozen=True)
class _LossySession:
    inner: Any
    engine: Lossy

    def round(self, state, cohort: Sequence) -> Iterator[Delivered | Failure]:
        for invitation in cohort:
            lost = self.engine.lost(invitation.ctx.round, invitation.client)
            if not (lost and self.engine.asleep):
                outcome = next(self.inner.round(state, [invitation]))
            yield Failure(*invitation, "network", "lost") if lost else outcome

    def local(self, state, cohort):
        return self.inner.local(state, cohort)

    def predict(self, params, split):
        return self.inner.predict(params, split)

    def close(self):
        self.inner.close()


def coin(round: int, client: int, probability: float = 0.4) -> bool:
    """A loss that depends on round and client alone."""
    return float(random.uniform(random.fold(random.key(round), client))) < probability


@dataclass(frozen=True)
class Spy:
    """An engine that keeps the session's ``recall``, so that a test can look into memories."""

    inner: Any = field(default_factory=sequential)
    recalls: list = field(default_factory=list)

    def open(self, algorithm, task, fleet, recall):
        self.recalls.append(recall)
        return self.inner.open(algorithm, task, fleet, recall)


SETTINGS: dict[str, Any] = {
    "rounds": 9,
    "cohort": Cohort(per_round=4, capabilities=(1.0, 0.5), draw="dynamic"),
    "evaluate": Evaluate(every=2, clients=False, last=3),
    "checkpoint": Checkpoint(every=2),
}


def run(algorithm, out=None, **changes) -> Run:
    """``fit`` on the toy task."""
    return fit(algorithm, Task(), changes.pop("fleet", Fleet()), **{**SETTINGS, "out": out, **changes})


def contents(folder: Path) -> dict[str, str]:
    """What a run must leave alike however often it was interrupted: logs without wall-clock columns, and the model."""
    import json

    found = {}
    for name in ("metrics.jsonl", "ledger.jsonl", "clients.jsonl"):
        if (folder / name).exists():
            rows = [json.loads(line) for line in (folder / name).read_text().splitlines()]
            kept = [{key: part for key, part in row.items() if not key.startswith("wall_")} for row in rows]
            found[name] = "\n".join(map(json.dumps, kept))
    found["model"] = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    summary = json.loads((folder / "summary.json").read_text())
    found["summary"] = json.dumps({key: part for key, part in summary.items() if key not in ("seconds", "run")})
    return found


CLIENTS = Evaluate(every=2, clients=True, last=3)
METHODS = {"fedavg": (FedAvg(), {"evaluate": CLIENTS}), "sparse": (Sparse(), {"engine": Lossy(coin)})}
"""Runs that together have everything: a state that grows, clients that are evaluated, memories, reports, losses."""


class At:
    """To be told of every round: does something after one of them."""

    def __init__(self, round, act):
        self.round, self.act = round, act

    def __call__(self, event):
        if event.round == self.round:
            self.act()


def interrupt():
    """What Ctrl-C does."""
    raise KeyboardInterrupt
