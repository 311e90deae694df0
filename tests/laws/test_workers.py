"""Law: ``workers`` plays the rounds of ``sequential``, bit for bit, whatever the method."""

import pytest
from catalogue import CATALOGUE, Row, name
from engines.toys import differences
from laws.test_vectorised import Fleet, rounds

from fedsep import engines


@pytest.mark.parametrize("row", CATALOGUE, ids=name)
def test_two_processes_play_the_rounds_of_sequential(row: Row):
    algorithm, fleet = row.build(), Fleet(row.base or row.task)
    expected = rounds(engines.sequential(), algorithm, row.task, fleet)
    assert not differences(expected, rounds(engines.workers(processes=2), algorithm, row.task, fleet))
