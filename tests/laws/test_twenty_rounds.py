"""Law: on every engine, twenty rounds of ``fit`` have the same cohorts and the same bytes, and end at the same model.

On all but ``vectorised``, whose sums are rounded elsewhere, it is the same to the last bit. Flower's twenty rounds are
in tests/engines/test_flower.py.
"""

import json

import pytest
import torch
from catalogue import CATALOGUE, Row, name
from engines.ranks import in_ranks
from laws.test_vectorised import Fleet as Parts

from fedsep import engines
from fedsep.train import Cohort, Evaluate, fit

ROWS = [row for row in CATALOGUE if row.name in ("fedavg", "topk_ef", "fedsep_quantised", "fedsep_lasso", "heterofl")]
"""One of each kind: plain, a memory that grows, a sketch that is re-drawn, a decode that iterates, sub-models."""


class Fleet(Parts):
    """Nobody else's data."""

    validation = None


def played(engine, row: Row, folder):
    """Who took part in which round and what it sent and was sent, and the model."""
    fleet = Fleet(row.base or row.task, sizes=(6, 6, 8, 8))
    never = Evaluate(rounds=(20,))
    run = fit(row.build(), row.task, fleet, rounds=20, cohort=Cohort(per_round=3), engine=engine, evaluate=never,
              out=folder)  # fmt: skip
    lines = (run.folder / "ledger.jsonl").read_text().splitlines()
    columns = ("round", "client", "direction", "payload", "header")
    return [[json.loads(line).get(column) for column in columns] for line in lines], run.params


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_twenty_rounds_are_those_of_sequential(row: Row, tmp_path):
    ledger, params = played(engines.sequential(), row, tmp_path / "sequential")
    assert len({line[0] for line in ledger}) == 20
    assert len({line[1] for line in ledger}) == 4

    told, model = played(engines.workers(processes=2), row, tmp_path / "workers")
    assert told == ledger
    torch.testing.assert_close(model, params, rtol=0, atol=0)

    told, model = played(engines.vectorised(chunk=2), row, tmp_path / "vectorised")
    assert told == ledger
    torch.testing.assert_close(model, params, rtol=1e-7, atol=1e-8)


def test_twenty_rounds_of_two_ranks_are_those_of_sequential(tmp_path):
    def act(rank):
        return {row.name: played(engines.torchrun(), row, tmp_path / "ranks" / row.name) for row in ROWS}

    found, codes = in_ranks(act, tmp_path)
    assert codes == [0, 0]
    for row in ROWS:
        told, model = found[row.name]
        ledger, params = played(engines.sequential(), row, tmp_path / row.name)
        assert told == ledger
        torch.testing.assert_close(model, params, rtol=0, atol=0)
