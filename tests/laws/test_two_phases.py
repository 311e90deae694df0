"""Law: a client's memory is committed when its reply is accepted. Under drops, a client whose reply was lost is as
one that never took part, and what was accepted plus what is remembered is what accepted rounds produced.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from catalogue import CATALOGUE, Row, name, network, row, shards
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsep import tree
from fedsep.core import Ctx
from fedsep.fedsep import ClientState, FedSep
from fedsep.testing import algorithms, play
from fedsep.testing.play import Played
from fedsep.wires import Dense

CLIENTS, ROUNDS = 2, 6
attendances = st.lists(
    st.dictionaries(st.integers(0, CLIENTS - 1), st.booleans(), max_size=CLIENTS), min_size=ROUNDS, max_size=ROUNDS
)


@dataclass(frozen=True)
class LargestWithErrors:
    """A wire with a memory: sends the k largest entries of the tree plus the error so far, and keeps the rest."""

    k: int = 3
    renewed: Callable[[Ctx], bool] | None = None

    def init(self, like):
        return tree.zeros_like(like)

    def pack(self, tree_, memory, ctx):
        fresh = self.renewed is not None and self.renewed(ctx)
        wanted, unravel = ravel_by_name(tree_ if fresh else tree.add(tree_, memory))
        index = wanted.abs().topk(self.k).indices
        rest = wanted.scatter(0, index, torch.zeros(self.k))
        return {"index": index.to(torch.int32), "value": wanted[index]}, unravel(rest)

    def unpack(self, payload, like, ctx):
        flat, unravel = ravel_by_name(like)
        return unravel(torch.zeros_like(flat).scatter(0, payload["index"].long(), payload["value"]))


def ravel_by_name(params):
    """Sender and receiver may hold the names in different orders: positions are those of the sorted names."""
    return tree.ravel({name: params[name] for name in sorted(params)})


REMEMBERING = {
    "a wire's errors": row("fedavg"),
    "errors and the last model": row(
        "fedsep_personal with warm start", strength=5.0, warm_start=True, decode_steps=1, terms=1
    ),
    "errors and the anchor": row("fedsep_linear", p=6, period=2),
}


def build(of: Row) -> FedSep:
    return replace(of.build(), uplink=LargestWithErrors())


@pytest.mark.parametrize("of", REMEMBERING.values(), ids=REMEMBERING.keys())
def test_a_method_with_memory_keeps_all_laws(of: Row):
    algorithm = of.build()
    calendar = getattr(algorithm.codec, "calendar", None)  # of coordinates that mean something else now and then
    wire = LargestWithErrors(renewed=calendar and calendar.renewed)
    algorithms.check_algorithm(replace(algorithm, uplink=wire), network, shards(network, CLIENTS))


@pytest.mark.parametrize("of", CATALOGUE, ids=name)
def test_a_dropped_reply_is_as_no_reply(of: Row):
    algorithms.dropped(of.build(), of.task, of.shards(), rounds=5, capabilities=of.capabilities)


@pytest.mark.parametrize("of", REMEMBERING.values(), ids=REMEMBERING.keys())
@settings(max_examples=5)
@given(attendance=attendances)
def test_under_random_drops_too(of: Row, attendance):
    algorithm, parts = build(of), shards(network, CLIENTS)
    accepted = [{client: True for client, kept in seats.items() if kept} for seats in attendance]
    played, never = (play(algorithm, network.init(), parts, these) for these in (attendance, accepted))
    for a, b in zip(tree.leaves(played.states), tree.leaves(never.states), strict=True):
        assert torch.equal(torch.as_tensor(a), torch.as_tensor(b))


@pytest.mark.parametrize("of", REMEMBERING.values(), ids=REMEMBERING.keys())
@settings(max_examples=5)
@given(attendance=attendances)
def test_accepted_plus_remembered_is_what_accepted_rounds_produced(of: Row, attendance):
    algorithm, parts = build(of), shards(network, CLIENTS)
    played = play(algorithm, network.init(), parts, attendance)
    for client in range(CLIENTS):
        conserved(algorithm, played, parts, client)


def conserved(algorithm: FedSep, played: Played, parts, client: int) -> None:
    plain, arrived, produced, remembered = replace(algorithm, uplink=Dense()), 0.0, 0.0, 0.0
    for seat in (seats[client] for seats in played.seats if client in seats):
        dx, _, _ = plain.update(seat.sent, ClientState(seat.before.codec, ()), parts[client], seat.ctx)
        if seat.accepted:
            arrived = arrived + ravel_by_name(algorithm.uplink.unpack(seat.reply, dx, seat.ctx))[0]
            produced = produced + ravel_by_name(dx)[0]
            remembered = ravel_by_name(seat.memory.wire)[0]
    torch.testing.assert_close(torch.as_tensor(arrived + remembered), torch.as_tensor(produced), rtol=1e-12, atol=1e-13)


def test_the_next_round_names_the_last_accepted_one():
    played = play(
        build(row("fedavg")),
        network.init(),
        shards(network, 1),
        [{0: True}, {}, {0: False}, {0: True}, {0: False}, {0: True}],
    )
    seats = [seats[0] for seats in played.seats if seats]
    assert [seat.ctx.seen for seat in seats] == [-1, 0, 0, 3, 3]
    for now, last in ((1, 0), (2, 0), (3, 2), (4, 2)):
        before, after = tree.leaves(seats[now].before.wire), tree.leaves(seats[last].memory.wire)
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
