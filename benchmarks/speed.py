"""Rounds per second of every engine on W1, W2 and W3, beside a plain PyTorch loop, and how they scale.

- ``engines``: FedAvg in each engine on W1 and W2, one round of the engine and one of each of three plain loops in
  turn: one with ``models.cnn``, one with the same network in the usual order of its layers, one with it in oneDNN's
  layout, which local steps give it. On a GPU the plain loop is one process that trains one client after the other.
- ``w3``: the same on W3, whose plain loop is batched: all clients' models are one tensor, their minibatches another, a
  step is a batched product.
- ``clients``, ``width``, ``processes``: seconds a round of W3's kind as the cohort grows from 10 to 10,000 clients, of
  one hidden layer as it widens, and of W2 by the number of worker processes.
- ``start``: seconds from the command to the opening of round 1, imports included: recipes/mnist_cnn/fedavg.yaml, which
  is W1 on the real images, with decoded data in the cache.

- ``bfloat16``, when it is asked for: W1 and W2 in ``workers`` with local steps in bfloat16.

With ``--keep`` parts that are not asked for stay as they are in the record; each part has an environment of its own.

Usage: python -m benchmarks.speed [--rounds 30] [--processes 2] [--out records/speed.json] [PART ...]
       python -m benchmarks.speed --keep --out records/speed.json w3
       python -m benchmarks.speed --rounds 10 --out records/speed_bfloat16.json bfloat16
       python -m benchmarks.speed --device cuda --out records/speed_gpu.json engines w3 clients width
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.markdown import machine, table
from benchmarks.rounds import WARM_UP, seconds
from benchmarks.steps import blocks, usual
from benchmarks.workloads import W1, W2, W3, PlainLoop, SingleLoop, Workload
from fedsep import algorithms, data, engines, models, tasks
from fedsep.cli.device import use_device
from fedsep.environment import environment
from fedsep.learners.precision import Precision

LOOPS = {
    "plain": ("plain loop", "of the plain loop's"),
    "usual": ("plain loop, usual order of layers", "of that loop's"),
    "blocks": ("plain loop, oneDNN's layout", "of that loop's"),
}
PARTS = ("engines", "w3", "clients", "width", "processes", "start")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "-m", "benchmarks.speed")


class BatchedLoop:
    """FedAvg on logistic regression as one would write it by hand for speed: one tensor for all clients' models."""

    def __init__(self, workload: Workload, federation: data.Federation, lr: float = 0.1) -> None:
        shards = [federation.shard(client).train.all() for client in range(workload.clients)]
        least = min(len(shard.y) for shard in shards)
        self.x = torch.stack([shard.x[:least].flatten(1) for shard in shards])
        self.y = torch.stack([shard.y[:least] for shard in shards]).long()
        net = workload.model(federation.shape, federation.classes)
        weight, bias = (part.detach().clone().to(self.x.device) for part in net.parameters())
        self.server, self.workload, self.lr = (weight, bias), workload, lr

    def round(self) -> None:
        """One round over a random cohort."""
        of = self.workload
        chosen = torch.randperm(of.clients)[: of.cohort]
        order = torch.rand(of.cohort, self.y.shape[1]).argsort(1)
        weight, bias = (part.expand(of.cohort, *part.shape).clone() for part in self.server)
        for step in range(of.steps):
            index = order[:, step * of.batch_size : (step + 1) * of.batch_size]
            weight, bias = self._step(weight, bias, self.x[chosen[:, None], index], self.y[chosen[:, None], index])
        self.server = weight.mean(0), bias.mean(0)

    def _step(self, weight: Tensor, bias: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        leaves = [weight.requires_grad_(), bias.requires_grad_()]
        logits = torch.baddbmm(leaves[1][:, None], x, leaves[0].transpose(1, 2))
        loss = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum") / x.shape[1]
        found = torch.autograd.grad(loss, leaves)
        after = [part.detach() - self.lr * gradient for part, gradient in zip(leaves, found, strict=True)]
        return after[0], after[1]

    def close(self) -> None:
        """Nothing."""


def cast(processes: int, device: str) -> dict[str, Any]:
    """The engines, by name."""
    if device != "cpu":
        return {f"sequential, {device}": engines.sequential(), f"vectorised, {device}": engines.vectorised()}
    return {
        "sequential": engines.sequential(),
        f"workers, {processes} processes": engines.workers(processes=processes),
        "vectorised, 1 thread": engines.vectorised(),
        f"vectorised, {processes} threads": engines.vectorised(threads=processes),
        **({f"flower, {processes} nodes": engines.flower(nodes=processes)} if find_spec("flwr") else {}),
    }


def method(workload: Workload, fleet: data.Federation, precision: Precision = "float32") -> tuple[Any, Any]:
    """FedAvg and its task."""
    task = tasks.classification(workload.model(fleet.shape, fleet.classes))
    steps, batch_size = workload.steps, workload.batch_size
    return algorithms.fedavg(task, lr=0.1, steps=steps, batch_size=batch_size, precision=precision), task


def by_engine(workloads: Sequence[Workload], rounds: int, processes: int, device: str) -> Iterator[dict[str, Any]]:
    """Every engine beside the plain loops, in turn."""
    for workload in workloads:
        fleet = workload.federation().to(device)
        for name, engine in cast(processes, device).items():
            threads = processes if workload is W3 and "threads" in name else 1
            yield beside(workload, fleet, name, engine, rounds, processes, device, threads)
        if device == "cpu":
            yield in_ranks(workload, rounds, processes)


def in_bfloat16(rounds: int, processes: int, device: str) -> Iterator[dict[str, Any]]:
    """The workers with the local steps in bfloat16, beside the plain loops, which stay in float32."""
    for workload in (W1, W2):
        engine, name = engines.workers(processes=processes), f"workers, {processes} processes, bfloat16"
        yield beside(workload, workload.federation(), name, engine, rounds, processes, device, 1, "bfloat16")


def beside(
    workload: Workload,
    fleet: Any,
    name: str,
    engine: Any,
    rounds: int,
    processes: int,
    device: str,
    threads: int,
    precision: Precision = "float32",
) -> dict[str, Any]:
    """Rounds a second of an engine, and of the plain loops that take turns with it."""
    algorithm, task = method(workload, fleet, precision)
    loops = by_hand(workload, fleet, processes, device)
    ours, plain = in_turn(algorithm, task, fleet, workload, engine, loops, rounds, threads)
    for loop in loops.values():
        loop.close()
    return {"workload": workload.name, "engine": name, "rounds_per_second": 1 / ours,
            **{loop: 1 / each for loop, each in plain.items()}}  # fmt: skip


def by_hand(workload: Workload, fleet: data.Federation, processes: int, device: str) -> dict[str, Any]:
    """The plain loops that a workload is compared with."""
    if workload is W3:
        return {"plain": BatchedLoop(workload, fleet)}
    if device != "cpu":
        return {"plain": SingleLoop(workload, fleet)}
    return {
        "plain": PlainLoop(workload, fleet, processes),
        "usual": PlainLoop(replace(workload, model=usual), fleet, processes),
        "blocks": PlainLoop(replace(workload, model=blocks), fleet, processes),
    }


def in_ranks(workload: Workload, rounds: int, processes: int) -> dict[str, Any]:
    """``torchrun`` beside the plain loops: a program of its own, which torchrun starts once for each rank."""
    words = [*TORCHRUN, "--rank-of", workload.name, "--rounds", str(rounds), "--processes", str(processes)]
    words.insert(2, f"--nproc-per-node={processes}")
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def as_rank(workload: Workload, rounds: int, processes: int) -> None:
    """One rank's part; rank 0 has the plain loops between its rounds, and says what all took."""
    fleet = workload.federation()
    if os.environ["RANK"] != "0":
        algorithm, task = method(workload, fleet)
        seconds(algorithm, task, fleet, workload.cohort, engines.torchrun(), rounds + 4, lambda: None)
        return
    name = f"torchrun, {processes} ranks"
    print(json.dumps(beside(workload, fleet, name, engines.torchrun(), rounds, processes, "cpu", 1)), flush=True)


def starts(repeats: int) -> Iterator[dict[str, Any]]:
    """Seconds from the command to the opening of round 1; the first command warms the caches and is not counted.

    One of them is Python's of byte code: it is kept, as it is unless the environment forbids it.
    """
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for repeat in range(repeats + 1):
        with tempfile.TemporaryDirectory() as folder:
            words = ["-m", "fedsep", "run", "recipes/mnist_cnn/fedavg.yaml", "--set", "rounds=1", "--out", folder]
            began = time.time()
            subprocess.run([sys.executable, *words, "--quiet"], check=True, capture_output=True, env=kept)
            [metrics] = Path(folder).glob("*/*/metrics.jsonl")
            [ledger] = Path(folder).glob("*/*/ledger.jsonl")
            if repeat:  # the ledger is written when the round is over, and the last model evaluated
                told = json.loads(metrics.read_text())
                after = told["wall_seconds"] + told["wall_evaluation_seconds"]
                yield {"run": repeat, "seconds": ledger.stat().st_mtime - after - began}


def in_turn(
    algorithm: Any,
    task: Any,
    fleet: Any,
    workload: Workload,
    engine: Any,
    loops: Mapping[str, Any],
    rounds: int,
    threads: int,
) -> tuple[float, dict[str, float]]:
    """Median seconds of a round of the engine and of every loop."""
    plain: dict[str, list[float]] = {name: [] for name in loops}

    def between() -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        for name, loop in loops.items():
            settled()
            began = time.perf_counter()
            loop.round()
            settled()
            plain[name].append(time.perf_counter() - began)
        torch.set_num_threads(before)

    ours = seconds(algorithm, task, fleet, workload.cohort, engine, rounds + 4, between)
    counted = slice(WARM_UP, WARM_UP + len(ours))
    return statistics.median(ours), {name: statistics.median(each[counted]) for name, each in plain.items()}


def settled() -> None:
    """Waits until a GPU has nothing left to do."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def alone(workload: Workload, engine: Any, rounds: int, device: str) -> float:
    """Median seconds of a round."""
    fleet = workload.federation().to(device)
    algorithm, task = method(workload, fleet)
    return statistics.median(seconds(algorithm, task, fleet, workload.cohort, engine, rounds + 4, lambda: None))


def scaling(part: str, rounds: int, processes: int, device: str) -> Iterator[dict[str, Any]]:
    """Seconds a round as one thing grows."""
    if part == "processes":
        for count in range(1, processes + 1):
            yield {"processes": count, "seconds": alone(W2, engines.workers(processes=count), rounds, device)}
        return
    for size, workload in dict(_grown(part)).items():
        for name, engine in cast(processes, device).items():
            if device != "cpu" and "vectorised" not in name:
                continue  # minutes a round
            yield {part: size, "engine": name, "seconds": alone(workload, engine, max(3, rounds // 4), device)}


def _grown(part: str) -> Iterator[tuple[int, Workload]]:
    if part == "clients":
        for count in (10, 100, 1_000, 10_000):
            yield count, replace(W3, clients=count, cohort=count, examples=20)
    else:
        for hidden in (16, 128, 1_024):
            yield hidden, replace(W3, model=partial(models.mlp, hidden=[hidden]))


def page_table(part: str, record: Path = Path("records/speed.json"), only: Sequence[str] = ()) -> str:
    """A part of the record as a table, or some workloads' rows of it."""
    found = json.loads(record.read_text()) if record.is_file() else {}
    if part not in found:
        return "Not measured yet."
    rows = [row for row in found[part] if not only or row["workload"] in only]
    if part in ("engines", "w3", "bfloat16"):
        loops = [loop for loop in LOOPS if any(loop in row for row in rows)]
        head = ["workload", "engine", "rounds a second", *(word for loop in loops for word in LOOPS[loop])]
        lines = [[row["workload"], row["engine"], f"{row['rounds_per_second']:.2f}",
                  *(cell for loop in loops for cell in _beside(row, loop))] for row in rows]  # fmt: skip
    else:
        head = [*(name for name in rows[0] if name != "seconds"), "seconds" if part == "start" else "seconds a round"]
        lines = [
            [*(value for name, value in row.items() if name != "seconds"), f"{row['seconds']:.4f}"] for row in rows
        ]
    made = found.get("environments", {}).get(part, found["environment"])
    return f"{table(head, lines)}\n\n{machine(made)}"


def _beside(row: dict[str, Any], loop: str) -> tuple[str, str]:
    """A loop's rounds a second, and the engine's as part of them."""
    return (f"{row[loop]:.2f}", f"{row['rounds_per_second'] / row[loop]:.2f}") if loop in row else ("", "")


def main() -> None:
    """Measures what is asked for and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--rank-of", choices=[workload.name for workload in (W1, W2, W3)], help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.rank_of:
        as_rank({each.name: each for each in (W1, W2, W3)}[options.rank_of], options.rounds, options.processes)
        return
    use_device(options.device)
    torch.empty(1)  # so that the record has the GPU's name
    record: dict[str, Any] = {"environment": environment("all", 0), "device": options.device}
    if options.keep:
        record = json.loads(options.out.read_text())
    for part in options.parts:
        record.setdefault("environments", {})[part] = environment("all", 0)
        makers: dict[str, Callable[..., Iterator[dict[str, Any]]]]
        makers = {"engines": partial(by_engine, (W1, W2)), "w3": partial(by_engine, (W3,)), "bfloat16": in_bfloat16,
                  "start": lambda rounds, processes, device: starts(5)}  # fmt: skip
        rows = makers.get(part, partial(scaling, part))(options.rounds, options.processes, options.device)
        record[part] = []
        for row in rows:
            record[part].append(
                {key: round(value, 5) if isinstance(value, float) else value for key, value in row.items()}
            )
            print(part, json.dumps(record[part][-1]), flush=True)
            if options.out is not None:
                options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
