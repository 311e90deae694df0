"""Law: the order of a cohort means nothing, and a round without replies moves only the clock."""

import pytest
import torch
from catalogue import CATALOGUE, Row, name, rehearsed

from fedsep import tree
from fedsep.core import Reply
from fedsep.testing import algorithms


@pytest.mark.parametrize("row", CATALOGUE, ids=name)
def test_the_order_of_replies_means_nothing(row: Row):
    algorithm, played = rehearsed(row)
    algorithms.order(algorithm, row.shards(), played, 1e-9)


@pytest.mark.parametrize("row", CATALOGUE, ids=name)
def test_without_replies_only_the_clock_moves(row: Row):
    algorithm, played = rehearsed(row)
    algorithms.empty_round(algorithm, row.task, row.shards(), played, row.capabilities)
    for number, state in enumerate(played.states):
        assert algorithm.aggregate(state, iter(()))[0].round == number + 1


@pytest.mark.parametrize("row", CATALOGUE, ids=name)
def test_without_replies_x_and_the_optimizer_only_advance(row: Row):
    algorithm, played = rehearsed(row)
    for state in played.states:
        x, renewed = algorithm.codec.advance(state.x, state.round + 1)
        wanted = (x, algorithm.server.init(x) if renewed else state.optimizer)
        after, _ = algorithm.aggregate(state, iter(()))
        for before, now in zip(tree.leaves(wanted), tree.leaves(tuple(after[:2])), strict=True):
            assert torch.equal(before, now)


@pytest.mark.parametrize("row", CATALOGUE, ids=name)
def test_equal_replies_act_as_one_of_them(row: Row):
    algorithm, played = rehearsed(row)
    state, seat = played.states[1], played.seats[1][0]
    one, many = (
        algorithm.model(algorithm.aggregate(state, (Reply(c, seat.ctx, seat.reply, 7) for c in range(n)))[0])
        for n in (1, 5)
    )
    torch.testing.assert_close(one, many, rtol=1e-10, atol=1e-12)
