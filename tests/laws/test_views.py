"""Law: paste is the transpose of cut; what a client is sent is tensors."""

import pytest
from catalogue import CATALOGUE, Row, name, network, rehearsed

from fedsep.testing import check_view
from fedsep.testing.draws import context
from fedsep.testing.views import adjoint
from fedsep.views import Whole


@pytest.mark.parametrize("row", CATALOGUE, ids=name)
def test_the_views_of_methods(row: Row):
    algorithm, played = rehearsed(row)
    for number, seen in ((0, -1), (1, 0), (4, -1), (4, 1), (4, 3)):
        ctx = context(number, seen=seen, capability=row.capabilities[number % len(row.capabilities)])
        check_view(algorithm.view, played.states[number].x, ctx=ctx)


def test_the_whole_is_its_own_transpose():
    adjoint(Whole(), network.init(), context(1))
