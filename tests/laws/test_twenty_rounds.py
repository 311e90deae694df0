"""Law: on every engine, twenty rounds of ``fit`` have the same cohorts and the same bytes, and end at the same model.

On all but ``vectorised``, whose sums are rounded elsewhere, it is the same to the last bit.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from catalogue import CATALOGUE, Row, name, shards
from engines.ranks import in_ranks
from laws.test_vectorised import Fleet as Parts

from fedsep import engines, tree
from fedsep.core import Failure
from fedsep.train import Cohort, Evaluate, fit

ROUNDS, CLIENTS, AT_ONCE = 20, 8, 2
FEW = ("fedavg", "topk_ef", "fedsep_quantised", "fedsep_lasso", "heterofl")
"""One of each kind: plain, a memory that grows, a sketch that is re-drawn, a decode that iterates, sub-models."""

SOME, OTHERS = ([row for row in CATALOGUE if (row.name in FEW) == few] for few in (True, False))
EVERY = [*SOME, *(pytest.param(row, marks=pytest.mark.slow) for row in OTHERS)]


class Fleet(Parts):
    """Eight clients of two sizes, and nobody else's data."""

    validation = None

    def __init__(self, task):
        super().__init__(task, sizes=(6, 8) * (CLIENTS // 2))

    def data(self, task):
        return 2 * [shard.train[:2] for shard in shards(task, CLIENTS // 2)]


class Told(NamedTuple):
    """What a client was sent and what came back: bytes by name."""

    round: int
    client: int
    capability: float
    down: dict[str, int]
    up: dict[str, int]


@dataclass(frozen=True)
class Noted:
    """An engine whose messages are written down here: on the disk, twenty rounds take as long again."""

    engine: Any
    told: list[Told]
    faults = None  # as around an engine with faults, ``fit`` looks inside for what leads and what follows

    def open(self, *arguments):
        return _Session(self.engine.open(*arguments), self.told)


@dataclass(frozen=True)
class _Session:
    inner: Any
    told: list[Told]

    def round(self, state, cohort):
        for outcome in self.inner.round(state, cohort):
            assert not isinstance(outcome, Failure), outcome
            reply = outcome.reply
            up = tree.named_bytes(reply.payload)
            self.told.append(Told(reply.ctx.round, reply.client, reply.ctx.capability, reply.sent, up))
            yield outcome

    def __getattr__(self, attribute):
        return getattr(self.inner, attribute)


def played(engine, row: Row):
    """Who took part in which round and what it sent and was sent, and the model."""
    told: list[Told] = []
    capabilities = row.capabilities if "budget" not in row.arguments() else (1.0, 0.7)  # 0.3 of parameters is no unit
    cohort = Cohort(per_round=AT_ONCE, capabilities=capabilities)
    run = fit(row.build(), row.task, Fleet(row.base or row.task), rounds=ROUNDS, cohort=cohort,
              engine=Noted(engine, told), evaluate=Evaluate(every=None))  # fmt: skip
    return told, run.params


@functools.cache
def reference(called: str):
    """``sequential``'s rounds."""
    told, params = played(engines.sequential(), next(row for row in CATALOGUE if row.name == called))
    assert {line.round for line in told} == set(range(ROUNDS))
    assert {line.client for line in told} == set(range(CLIENTS))
    return told, params


def same(row: Row, found, **tolerance):
    """The messages are those of ``sequential``, and so is the model."""
    told, params = reference(row.name)
    assert found[0] == told
    torch.testing.assert_close(found[1], params, **(tolerance or {"rtol": 0, "atol": 0}))


@pytest.mark.parametrize("row", CATALOGUE, ids=name)
def test_stacked_clients_send_the_bytes_of_sequential_and_come_to_its_model(row: Row):
    same(row, played(engines.vectorised(chunk=2), row), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("row", EVERY, ids=name)
def test_two_processes_play_the_rounds_of_sequential(row: Row):
    same(row, played(engines.workers(processes=2), row))


@pytest.mark.parametrize("row", EVERY, ids=name)
def test_two_sites_play_the_rounds_of_sequential(row: Row):
    pytest.importorskip("flwr", reason="Flower is not installed: pip install 'fedsep[flower]'")
    same(row, played(engines.flower(nodes=2), row))


@pytest.mark.parametrize("rows", [SOME, pytest.param(OTHERS, marks=pytest.mark.slow)], ids=["some", "others"])
def test_two_ranks_play_the_rounds_of_sequential(rows: list[Row], tmp_path):
    """All rows in the two processes: what takes time is to start them."""

    def act(rank):
        return {row.name: played(engines.torchrun(), row) for row in rows}

    found, codes = in_ranks(act, tmp_path, seconds=900)
    assert codes == [0, 0], found
    for row in rows:
        same(row, found[row.name])
