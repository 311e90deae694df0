"""Law: six functions of the same names; models that can be run; states that can be stored."""

import pytest
from catalogue import CATALOGUE, Row, name, rehearsed

from fedsep.testing import algorithms


@pytest.mark.parametrize("row", CATALOGUE, ids=name)
def test_a_method_has_the_six_functions(row: Row):
    algorithms.protocol(row.build())


@pytest.mark.parametrize("row", CATALOGUE, ids=name)
def test_models_can_be_run_and_states_can_be_stored(row: Row):
    algorithm, played = rehearsed(row)
    algorithms.model(algorithm, row.task, played)
