"""Law: a payload is tensors and nothing else, it survives save and load, and it is all that reaches the other end."""

import pytest
from catalogue import CATALOGUE, Row, name, rehearsed

from fedsep.testing import algorithms


@pytest.mark.parametrize("row", CATALOGUE, ids=name)
def test_payloads_are_tensors_that_survive_save_and_load(row: Row):
    algorithms.payloads(*rehearsed(row))


@pytest.mark.parametrize("row", CATALOGUE, ids=name)
def test_only_payloads_reach_the_other_end(row: Row):
    algorithm, played = rehearsed(row)
    algorithms.crosses(algorithm, row.task, row.shards(), played, 1e-9, row.capabilities)
