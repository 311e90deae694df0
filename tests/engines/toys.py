"""Small federations and methods that show whether two engines give the same bits, and a loop to play them with."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from fedsep import random, tree
from fedsep.core import Ctx, Failure, Invitation, Samples, Shard, stage


@dataclass(frozen=True)
class Fleet:
    """Clients with 12 images of 8 x 8 each, stored as bytes; 1,700 images to be evaluated on."""

    clients: int = 7
    rows: int = 1700

    def shard(self, client: int) -> Shard:
        train = images(client, 12 + client % 3)
        return Shard(train, test=images(100 + client, 5))

    @property
    def validation(self) -> None:
        return None

    @property
    def test(self) -> Samples:
        return images(99, self.rows)


def images(seed: int, count: int) -> Samples:
    key = random.key(seed)
    x = random.integers(random.fold(key, 0), 256, count, 1, 8, 8).to(torch.uint8)
    y = random.integers(random.fold(key, 1), 4, count)
    return Samples(x, y, torch.tensor(127.5), torch.tensor(1 / 64))


@dataclass(frozen=True)
class Task:
    """Two convolutions, and a layer of one output a class by a matrix-vector product each: MKL minds alignment."""

    def init(self) -> dict[str, Tensor]:
        shapes = {"a.weight": (5, 1, 3, 3), "a.bias": (5,), "b.weight": (7, 5, 3, 3), "c.weight": (4, 7 * 16)}
        return {name: 0.2 * random.normal(random.key(i), *shape) for i, (name, shape) in enumerate(shapes.items())}

    def predict(self, params: dict[str, Tensor], x: Tensor) -> Tensor:
        hidden = functional.conv2d(x, params["a.weight"], params["a.bias"], padding=1).relu()
        hidden = functional.conv2d(hidden, params["b.weight"]).relu()
        features = hidden[:, :, 1:5, 1:5].flatten(1)
        return torch.stack([features @ row for row in params["c.weight"]], 1)

    def loss(self, params: dict[str, Tensor], batch: Any) -> Tensor:
        return functional.cross_entropy(self.predict(params, batch.x), batch.y)

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        return {"accuracy": (outputs.argmax(1) == targets).double().mean().item(), "sum": outputs.sum().item()}


@dataclass(frozen=True)
class FedAvg:
    """Two steps of gradient descent; the server adds the mean of the changes."""

    task: Task = field(default_factory=Task)
    lr: float = 0.1

    def init(self, params: dict[str, Tensor]) -> Any:
        return params

    def broadcast(self, state: Any, ctx: Ctx) -> Any:
        return state

    def enroll(self, payload: Any, ctx: Ctx) -> Any:
        return ()

    def update(self, payload: Any, client: Any, shard: Shard, ctx: Ctx) -> tuple[Any, Any, Any]:
        y, loss = self.learn(payload, shard, ctx)
        return tree.sub(y, payload), client, {"loss": loss}

    def aggregate(self, state: Any, replies: Any) -> tuple[Any, Any]:
        changes = [reply.payload for reply in replies]
        for change in changes:
            state = tree.add(state, change, 1 / len(changes))
        return state, {}

    def model(self, state: Any) -> Any:
        return state

    def local_models(self, payload: Any, client: Any, shard: Shard, ctx: Ctx) -> tuple[Any, Any]:
        return payload, self.learn(payload, shard, ctx)[0]

    def learn(self, params: Any, shard: Shard, ctx: Ctx) -> tuple[Any, Tensor]:
        with stage("learn"):
            y = {name: part.detach() for name, part in params.items()}
            for step in range(2):
                batch = shard.train.take(random.permutation(random.fold(ctx.key, step), shard.train.size)[:8])
                y = {name: part.requires_grad_() for name, part in y.items()}
                loss = self.task.loss(y, batch)
                slopes = torch.autograd.grad(loss, list(y.values()))
                y = {name: part.detach() - self.lr * g for (name, part), g in zip(y.items(), slopes, strict=True)}
        return y, loss.detach()


class Remembered(NamedTuple):
    """A client's memory with all that a tree may have."""

    residual: dict[str, Tensor]
    counts: list[Tensor]
    nothing: tuple[()]


class Remembering(FedAvg):
    """Rounds what it sends to bfloat16 and remembers the error; some of its memory is views at odd addresses."""

    def enroll(self, payload: Any, ctx: Ctx) -> Any:
        return Remembered(tree.zeros_like(payload), [torch.tensor(0), torch.zeros(0, 3)], ())

    def update(self, payload: Any, client: Any, shard: Shard, ctx: Ctx) -> tuple[Any, Any, Any]:
        change, _, info = super().update(payload, (), shard, ctx)
        wanted, unravel = tree.ravel(tree.add(change, client.residual))
        sent = wanted.bfloat16()
        shifted = torch.cat([wanted.new_zeros(1), wanted - sent.to(wanted.dtype)])[1:]
        counts = [client.counts[0] + 1, client.counts[1]]
        return {"change": sent}, Remembered(unravel(shifted), counts, ()), info

    def aggregate(self, state: Any, replies: Any) -> tuple[Any, Any]:
        unravel = tree.ravel(state)[1]
        changes = [reply.payload["change"] for reply in replies]
        for change in changes:
            state = tree.add(state, unravel(change.to(state["a.bias"].dtype)), 1 / len(changes))
        return state, {}


class Reporting(FedAvg):
    """Tells the server how far it came, and is sent a smaller model next time."""

    def broadcast(self, state: Any, ctx: Ctx) -> Any:
        told = 1.0 if ctx.report is None else 1.0 + ctx.report["norm"].item() * 1e-3
        return {"model": {name: part * told for name, part in state.items()}}

    def update(self, payload: Any, client: Any, shard: Shard, ctx: Ctx) -> tuple[Any, Any, Any]:
        change, _, info = super().update(payload["model"], (), shard, ctx)
        extra = 0.0 if ctx.report is None else ctx.report["history"].sum()
        history = torch.full((100,), ctx.round + 1.0) + extra
        return {"model": change, "report": {"norm": tree.norm(change), "history": history}}, client, info

    def aggregate(self, state: Any, replies: Any) -> tuple[Any, Any]:
        stripped = [reply._replace(payload=reply.payload["model"]) for reply in replies]
        return super().aggregate(state, stripped)

    def local_models(self, payload: Any, client: Any, shard: Shard, ctx: Ctx) -> tuple[Any, Any]:
        return super().local_models(payload["model"], client, shard, ctx)


class Silent(FedAvg):
    """Sends nothing, either way."""

    def broadcast(self, state: Any, ctx: Ctx) -> Any:
        return {}

    def update(self, payload: Any, client: Any, shard: Shard, ctx: Ctx) -> tuple[Any, Any, Any]:
        return {}, client, {}

    def aggregate(self, state: Any, replies: Any) -> tuple[Any, Any]:
        return tree.scale(state, 1.0 + len(list(replies))), {}

    def local_models(self, payload: Any, client: Any, shard: Shard, ctx: Ctx) -> tuple[Any, Any]:
        return self.task.init(), self.task.init()


def odd_tensors() -> dict[str, Tensor]:
    """Tensors of all kinds; what is not dense or not aligned would be computed with differently."""
    x = torch.arange(3 * 4 * 5 * 6, dtype=torch.get_default_dtype()).reshape(3, 4, 5, 6) / 7
    kinds = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8, torch.uint8, torch.int64)
    return {
        **{f"of {kind}": x.to(kind) for kind in kinds},
        "bool": x > 10,
        "complex": torch.complex(x, -x).conj(),
        "scalar": torch.tensor(2.5, dtype=torch.bfloat16),
        "empty": torch.empty(0, 3),
        "channels last": x.contiguous(memory_format=torch.channels_last),
        "transposed": x.reshape(12, 30).T,
        "columns": x.reshape(12, 30)[:, 3:20],
        "expanded": x[0, 0, 0].expand(50, 6),
        "shifted": x.reshape(-1)[1:],
        "with history": (x.clone().requires_grad_() * 2),
    }


class Odd(FedAvg):
    """Tensors of all kinds, there and back, and in the memory; what is computed with them depends on their layout."""

    def broadcast(self, state: Any, ctx: Ctx) -> Any:
        return odd_tensors()

    def update(self, payload: Any, client: Any, shard: Shard, ctx: Ctx) -> tuple[Any, Any, Any]:
        strides = {name: torch.tensor(part.stride()) for name, part in payload.items()}
        vector = payload["shifted"]
        made = {"dot": vector @ vector, "product": payload["transposed"] @ vector[:12]}
        memory = client or {"odd": odd_tensors()}
        again = {f"again {name}": part for name, part in memory["odd"].items()}
        return {**odd_tensors(), **made, "strides": strides, **again}, memory, {}

    def aggregate(self, state: Any, replies: Any) -> tuple[Any, Any]:
        total = sum((reply.payload["shifted"] @ reply.payload["shifted"] for reply in replies), torch.tensor(0.0))
        return tree.scale(state, 1 + 1e-9 * total), {}


def invite(round: int, client: int, seen: int = -1, report: Any = None) -> Invitation:
    key = random.fold(random.fold(random.key(5), round), client)
    return Invitation(client, Ctx(round, 1.0, key, seen, report))


def play(engine: Any, algorithm: Any, fleet: Fleet, rounds: int = 3) -> dict[str, Any]:
    """All that comes out of a few rounds, clients in odd orders; every third reply is lost on its way."""
    memories: dict[tuple[int, int], Any] = {}
    seen, reports = dict.fromkeys(range(fleet.clients), -1), {}
    out: dict[str, Any] = {"replies": [], "memories": [], "states": [], "local": [], "predicted": []}
    session = engine.open(algorithm, Task(), fleet, lambda client, seen: memories.get((client, seen)))
    state = algorithm.init(Task().init())
    try:
        for round in range(rounds):
            members = sorted(range(fleet.clients), key=lambda c: (c * 5 + round) % fleet.clients)
            cohort = [invite(round, c, seen[c], reports.get(c)) for c in members]
            accepted = []
            for reply, memory in session.round(state, cohort):
                memories[reply.client, round] = memory
                out["replies"].append(copy.deepcopy(reply))
                out["memories"].append(copy.deepcopy(memory))
                if (reply.client + round) % 3:
                    seen[reply.client] = round
                    reports[reply.client] = reply.payload.get("report")
                    accepted.append(reply)
            state, _ = algorithm.aggregate(state, accepted)
            out["states"].append(state)
            out["local"] += list(session.local(state, cohort))
            out["predicted"].append(session.predict(algorithm.model(state), "test"))
    finally:
        session.close()
    return out


def differences(a: Any, b: Any, at: str = "") -> list[str]:
    """Where two trees are not the same to the bit; layouts count, tracebacks do not."""
    if type(a) is not type(b):
        return [f"{at}: {type(a).__name__} and {type(b).__name__}"]
    if isinstance(a, Tensor):
        form = (a.dtype, a.shape, a.stride()) == (b.dtype, b.shape, b.stride())
        return [] if form and bits(a) == bits(b) else [f"{at}: {a} and {b}"]
    if isinstance(a, Failure):
        a, b = a._replace(traceback=""), b._replace(traceback="")
    if isinstance(a, dict):
        keys = [] if list(a) == list(b) else [f"{at}: {list(a)} and {list(b)}"]
        return keys or [d for name in a for d in differences(a[name], b[name], f"{at}[{name!r}]")]
    if isinstance(a, list | tuple):
        length = [] if len(a) == len(b) else [f"{at}: lengths {len(a)} and {len(b)}"]
        return length or [d for i, (u, v) in enumerate(zip(a, b, strict=True)) for d in differences(u, v, f"{at}[{i}]")]
    return [] if a == b else [f"{at}: {a!r} and {b!r}"]


def bits(tensor: Tensor) -> bytes:
    return tensor.detach().resolve_conj().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
