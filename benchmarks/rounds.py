"""Times rounds of W1, W2 and W3 against a plain PyTorch loop, one round of each in turn.

On W1 the sketches and LASSO are timed, too. Re-drawing a sketch every third round shows in the sum of the times, not in
their median, so what counts for them is the ratio of sums; the number of rounds is a multiple of three.

Usage: python -m benchmarks.rounds [--out records/rounds.json] [--rounds 30] [--processes 2] [--only W1] [--method TEXT]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.workloads import W1, W2, W3, PlainLoop, Workload
from fedsep import Cohort, Evaluate, FedSep, Invitation, algorithms, data, engines, fit, operators, random, tasks
from fedsep.core import Ctx, Info, Params, Payload, Shard
from fedsep.environment import environment

WARM_UP = 3  # rounds of each side that are not counted


class Nothing:
    """A method whose clients do nothing with a payload of a given size: what remains is the engine."""

    def __init__(self, numbers: int) -> None:
        self.payload = {"x": torch.zeros(numbers)} if numbers else {}

    def init(self, params: Params) -> Params:
        """No state worth the name."""
        return params

    def broadcast(self, state: Params, ctx: Ctx) -> Payload:
        """The same payload for all."""
        return self.payload

    def enroll(self, payload: Payload, ctx: Ctx) -> tuple[()]:
        """Nothing."""
        return ()

    def update(self, payload: Payload, client: Any, shard: Shard, ctx: Ctx) -> tuple[Payload, Any, Info]:
        """Sends back what came."""
        return payload, client, {}

    def aggregate(self, state: Params, replies: Any) -> tuple[Params, Info]:
        """Reads every reply."""
        for _ in replies:
            pass
        return state, {}

    def model(self, state: Params) -> Params:
        """The state."""
        return state


def seconds(
    method: Any, task: Any, fleet: Any, cohort: int, engine: Any, rounds: int, between: Callable[[], Any]
) -> list[float]:
    """Seconds of each round of ``fit``; ``between`` is called after every round, outside the clock."""
    times: list[float] = []
    began = time.perf_counter()

    def watch(event: Any) -> None:
        nonlocal began
        times.append(time.perf_counter() - began)
        between()
        began = time.perf_counter()

    never = Evaluate(rounds=(rounds,))
    fit(method, task, fleet, rounds=rounds, cohort=Cohort(per_round=cohort), engine=engine, evaluate=never, watch=watch)
    return times[WARM_UP:-1]  # the last round evaluates


Make = Callable[..., FedSep]


def compressed() -> dict[str, Make]:
    """What is timed on W1 beside FedAvg: sketches re-drawn every third round, and LASSO with 50 FISTA steps."""
    gaussian = partial(algorithms.fedsep_linear, operator=operators.gaussian)  # stored, factorised at every re-draw
    made: dict[str, Make] = {"fedsep_linear p=500 period=25 operator=gaussian": partial(gaussian, p=500, period=25)}
    for p in (125, 500, 2000):
        made[f"fedsep_quantised p={p} period=3"] = partial(algorithms.fedsep_quantised, p=p, period=3)
        dct = partial(algorithms.fedsep_linear, p=p, period=3, operator=operators.dct)
        made[f"fedsep_linear p={p} period=3 operator=dct"] = dct
    made["fedsep_linear p=125 period=3 operator=gaussian"] = partial(gaussian, p=125, period=3)
    made["fedsep_lasso p=500"] = partial(algorithms.fedsep_lasso, p=500)
    fifty = partial(algorithms.fedsep_lasso, p=500, decode_steps=50, tolerance=0.0)
    made["fedsep_lasso p=500 decode_steps=50"] = fifty
    for operator in (operators.dct, operators.srht, operators.block_srht):
        made[f"fedsep_lasso p=500 decode_steps=50 operator={operator.__name__}"] = partial(fifty, operator=operator)
    return made


def against_plain(workload: Workload, rounds: int, processes: int, wanted: str = "") -> Iterator[dict[str, Any]]:
    """The workers engine's FedAvg and FedSep beside the plain loop's FedAvg, in turn; a row for each as it is measured.

    Args:
        workload: One of three.
        rounds: That are counted.
        processes: Of either side.
        wanted: Beside FedAvg, only methods in whose name this occurs.
    """
    fleet = workload.federation()
    task = tasks.classification(workload.model(fleet.shape, fleet.classes))
    local = {"lr": 0.1, "steps": workload.steps, "batch_size": workload.batch_size}
    makers = {name: make for name, make in compressed().items() if wanted in name} if workload is W1 else {}
    loop = PlainLoop(workload, fleet, processes)
    first: dict[str, Any] = {}
    for name, make in {"fedavg": algorithms.fedavg, **makers}.items():
        row = _pair(name, make(task, **local), task, fleet, workload, rounds, processes, loop)
        if first:  # both against the same plain loop, in turn with it
            row["ratio_to_fedavg"] = round(row["ratio_of_medians"] / first["ratio_of_medians"], 3)
            row["ratio_of_sums_to_fedavg"] = round(row["ratio_of_sums"] / first["ratio_of_sums"], 3)
        first = first or row
        yield row
    loop.close()


def _pair(
    name: str,
    method: FedSep,
    task: Any,
    fleet: data.Federation,
    workload: Workload,
    rounds: int,
    processes: int,
    loop: PlainLoop,
) -> dict[str, Any]:
    plain: list[float] = []

    def between() -> None:
        began = time.perf_counter()
        loop.round()
        plain.append(time.perf_counter() - began)

    engine = engines.workers(processes=processes)
    ours = seconds(method, task, fleet, workload.cohort, engine, rounds + WARM_UP + 1, between)
    counted = plain[WARM_UP : WARM_UP + len(ours)]
    return {
        "workload": workload.name,
        "method": name,
        "processes": processes,
        "seconds": _spread(ours),
        "plain_seconds": _spread(counted),
        "ratio_of_sums": round(sum(ours) / sum(counted), 3),
        "ratio_of_medians": round(statistics.median(ours) / statistics.median(counted), 3),
    }


def overhead(rounds: int, processes: int) -> list[dict[str, Any]]:
    """Milliseconds a round for 100 clients that do nothing, with an empty payload and with 24,234 numbers."""
    fleet = W3.federation()
    task = tasks.classification(W3.model(fleet.shape, fleet.classes))
    rows: list[dict[str, Any]] = []
    for name, engine in {"sequential": engines.sequential(), "workers": engines.workers(processes=processes)}.items():
        for numbers in (0, 24_234):
            method = Nothing(numbers)
            times = seconds(method, task, fleet, 100, engine, rounds + WARM_UP + 1, lambda: None)
            rows.append({"engine": f"{name}, in fit", "numbers": numbers, "milliseconds": _spread(times, 1e3)})
            wall, cpu = alone(method, task, fleet, engine, rounds)
            row = {"engine": f"{name}, alone", "numbers": numbers, "milliseconds": _spread(wall, 1e3)}
            rows.append(row | {"own_cpu_milliseconds": _spread(cpu, 1e3)})
    return rows


def alone(method: Any, task: Any, fleet: Any, engine: Any, rounds: int) -> tuple[list[float], list[float]]:
    """The engine's part of a round of 100 clients: without the loop's checks, ledger and log.

    Returns:
        Seconds of each round by the clock, and seconds of this process's own work (not its workers') in it.
    """
    session, state = engine.open(method, task, fleet, lambda client, seen: None), method.init(task.init())
    cohort = [Invitation(client, Ctx(0, 1.0, random.key(client))) for client in range(100)]
    wall, cpu = [], []
    for _ in range(rounds + WARM_UP):
        began, worked = time.perf_counter(), time.process_time()
        for _ in session.round(state, cohort):
            pass
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - worked)
    session.close()
    return wall[WARM_UP:], cpu[WARM_UP:]


def _spread(times: list[float], unit: float = 1.0) -> dict[str, float]:
    return {
        "median": round(unit * statistics.median(times), 5),
        "least": round(unit * min(times), 5),
        "most": round(unit * max(times), 5),
        "rounds": len(times),
    }


def main() -> None:
    """Runs everything, prints a line for each result and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", choices=("W1", "W2", "W3", "overhead"), help="measure this alone")
    parser.add_argument("--method", default="", help="on W1, beside FedAvg, only methods whose name has this in it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    record: dict[str, Any] = {
        "environment": environment("workers", 0),
        "processes": options.processes,
        "rounds": [],
        "overhead": [],
    }
    # One process fewer than cores leaves the parent a core of its own: the difference is what its work costs.
    sides = [(each, options.processes) for each in (W1, W2, W3)] + [(W2, options.processes - 1)]
    for workload, processes in sides:
        if options.only in (None, workload.name) and processes:
            for row in against_plain(workload, options.rounds, processes, options.method):
                record["rounds"].append(row)
                print(json.dumps(row), flush=True)
    if options.only in (None, "overhead"):
        for row in overhead(10 * options.rounds, options.processes):  # they are short
            record["overhead"].append(row)
            print(json.dumps(row), flush=True)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
