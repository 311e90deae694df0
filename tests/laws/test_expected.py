"""Law: every reply has the form that the server expects, and is read as the change that it folds."""

import pytest
import torch
from catalogue import CATALOGUE, Row, name, rehearsed

from fedsep import tree
from fedsep.core import Failure, Invitation, Reply
from fedsep.replies import Gate, require_form


@pytest.mark.parametrize("row", CATALOGUE, ids=name)
def test_every_reply_is_of_the_expected_form(row: Row):
    algorithm, played = rehearsed(row)
    for state, seats in zip(played.states, played.seats, strict=False):
        for seat in seats.values():
            require_form(seat.reply, algorithm.expected(state, seat.ctx))


@pytest.mark.parametrize("row", CATALOGUE, ids=name)
def test_a_reply_that_was_read_when_it_was_checked_is_folded_the_same(row: Row):
    algorithm, played = rehearsed(row)
    state, seats = played.states[1], played.seats[1]
    gate = Gate(algorithm, state, [Invitation(client, seat.ctx) for client, seat in seats.items()])
    replies = [Reply(client, seat.ctx, seat.reply, 6 + 2 * client) for client, seat in seats.items()]
    passed = [gate.passed(reply) for reply in replies]
    assert not [failure for failure in passed if isinstance(failure, Failure)]
    assert all(reply.change is not None for reply in passed)
    plain, checked = (algorithm.aggregate(state, iter(each))[0] for each in (replies, passed))
    for a, b in zip(tree.leaves(plain), tree.leaves(checked), strict=True):
        assert torch.equal(torch.as_tensor(a), torch.as_tensor(b))
