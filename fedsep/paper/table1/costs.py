"""What a client pays by its capability: bytes from ledgers of runs, multiply-adds counted while one client works."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils.flop_counter import FlopCounterMode

from fedsep import random
from fedsep.cohort import Cohort
from fedsep.core import Algorithm, Ctx, Reply, Shard
from fedsep.report.reading import RunData, read_lines

ROUNDS = 3
"""Rounds that a client is watched. The first, in which some methods agree on masks or have nothing to send, is left
out; the two others hold one refresh of a mask that is refreshed every second time."""

Costs = Mapping[float, float]
"""By capability."""


def bytes_by_level(runs: Sequence[RunData], cohort: Cohort, clients: int) -> dict[float, float]:
    """Mean payload of a client in a round, up and down, by its capability in that round.

    Args:
        runs: With their ledgers.
        cohort: Of the runs; what a client could hold follows from it and the seed.
        clients: Of the fleet.
    """
    total: defaultdict[float, float] = defaultdict(float)
    count: defaultdict[float, int] = defaultdict(int)
    for run in runs:
        for round, sent in _by_round(run).items():
            members = sorted(sent)
            for client, level in zip(
                members, cohort.capability(run.seed or 0, round - 1, members, clients), strict=True
            ):
                total[level] += sent[client]
                count[level] += 1
    return {level: total[level] / count[level] for level in sorted(count, reverse=True)}


def _by_round(run: RunData) -> dict[int, dict[int, int]]:
    found: defaultdict[int, defaultdict[int, int]] = defaultdict(lambda: defaultdict(int))
    for _, row in read_lines(run.folder / "ledger.jsonl"):
        found[row["round"]][row["client"]] += row["payload"]
    return {round: dict(sent) for round, sent in found.items()}


def macs_by_level(
    algorithm: Algorithm[Any, Any], start: Any, shard: Shard, levels: Sequence[float]
) -> dict[float, float]:
    """Multiply-adds of a client in a round, forward and backward, by its capability: half of what torch counts.

    Whatever the method computes on the client is in it: scores and masks, distillation. Weights that are masked are
    multiplied all the same here, and count.

    Args:
        algorithm: The method.
        start: The server's state before the first round.
        shard: The client's data.
        levels: Capabilities.
    """
    return {level: _macs(algorithm, start, shard, level) for level in levels}


def _macs(algorithm: Algorithm[Any, Any], state: Any, shard: Shard, level: float) -> float:
    memory, report, counted = None, None, list[float]()
    for round in range(ROUNDS):
        ctx = Ctx(round, level, random.fold(random.key(7), round), round - 1, report)
        payload = algorithm.broadcast(state, ctx)
        memory = algorithm.enroll(payload, ctx) if memory is None else memory
        with FlopCounterMode(display=False) as counter:
            sent, memory, _ = algorithm.update(payload, memory, shard, ctx)
        counted.append(counter.get_total_flops() / 2)
        report = sent.get("report", report) if isinstance(sent, dict) else report
        state, _ = algorithm.aggregate(state, [Reply(0, ctx, sent, shard.train.size)])
    return sum(counted[1:]) / (ROUNDS - 1)


def dump(costs: Mapping[str, Costs]) -> str:
    """Costs by row as JSON."""
    return json.dumps({name: {f"{level:g}": value for level, value in own.items()} for name, own in costs.items()})


def parse(text: str) -> dict[str, dict[float, float]]:
    """The inverse of ``dump``."""
    return {name: {float(level): value for level, value in own.items()} for name, own in json.loads(text).items()}
