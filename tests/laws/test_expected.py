"""Law: every reply has the form that the server expects, and is read as the change that it folds."""

from dataclasses import dataclass, replace

import pytest
import torch
from catalogue import CATALOGUE, Row, name, network, rehearsed, shards

from fedsep import tree
from fedsep.core import Failure, Invitation, Reply
from fedsep.replies import Gate
from fedsep.testing import LawBroken, algorithms, check_wire
from fedsep.testing.algorithms import rehearse


@pytest.mark.parametrize("row", CATALOGUE, ids=name)
def test_every_reply_is_of_the_expected_form(row: Row):
    algorithms.expected(*rehearsed(row))


@pytest.mark.parametrize("row", CATALOGUE, ids=name)
def test_clients_of_one_capability_are_each_judged_by_their_own_form(row: Row):
    weakest, parts = min(row.capabilities), [*row.shards(), *row.shards()]
    method = row.build()
    algorithms.expected(method, rehearse(method, row.task, parts, rounds=5, capabilities=(weakest,)))


@dataclass(frozen=True)
class Nonzero:
    """A wire whose length depends on the message, and that does not say so."""

    def init(self, like):
        return ()

    def pack(self, tree_, memory, ctx):
        flat = tree_["0.weight"].reshape(-1)
        places = (flat > 0).nonzero()[:, 0]
        return {"places": places.to(torch.uint8), "values": flat[places]}, memory

    def unpack(self, payload, like, ctx):
        flat = torch.zeros(like["0.weight"].numel()).index_put((payload["places"].long(),), payload["values"])
        return {**tree.zeros_like(like), "0.weight": flat.reshape(like["0.weight"].shape)}


def test_a_wire_of_varying_length_must_say_so():
    method = replace(CATALOGUE[0].build(), uplink=Nonzero())
    with pytest.raises(LawBroken, match=r"every reply has the form .*\n.*\n.*has the shape"):
        algorithms.expected(method, rehearse(method, network, shards(network)))
    with pytest.raises(LawBroken, match="unless the wire or a part of it says `varies`"):
        check_wire(Nonzero(), network.init(), error=1.0)


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
