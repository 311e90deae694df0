"""Law: a client that was away decodes what it would have decoded had it never been away, and never pays more for it
than for everything.
"""

import pytest
import torch
from catalogue import Tiny, network, shards
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsep import algorithms, operators, servers, tree, wires
from fedsep.testing import play
from fedsep.testing.draws import context
from fedsep.testing.play import Attendance

CLIENTS, ROUNDS = 3, 12
SETTINGS = {
    "a sketch of few numbers": {"p": 4, "period": 2},
    "a sketch that is soon larger than the anchor": {"p": 11, "period": 1},
    "p = d": {"p": network.d, "period": 3},
    "as drawn": {"p": 6, "period": 2, "operator": operators.gaussian, "orthonormal": False},
    "drawn once": {"p": 6, "period": "never"},
    "bfloat16 both ways": {"p": 6, "period": 2, "downlink": wires.dense(dtype="bfloat16"),
                           "uplink": wires.dense(dtype="bfloat16")},
    "float16 down": {"p": 9, "period": 2, "downlink": wires.dense(dtype="float16")},
    "under momentum": {"p": 6, "period": 3, "server": servers.sgd(lr=0.7, momentum=0.9)},
}  # fmt: skip

attendances = st.lists(
    st.dictionaries(st.integers(0, CLIENTS - 1), st.booleans(), max_size=CLIENTS), min_size=ROUNDS, max_size=ROUNDS
)


def build(options, task: Tiny = network):
    return algorithms.fedsep_linear(task, steps=1, batch_size=4, **options)


def check(options, attendance: Attendance, task: Tiny = network) -> set[tuple[str, ...]]:
    """Plays with server and clients apart; returns the kinds of messages that were sent."""
    server, clients, parts = build(options), build(options), shards(task, CLIENTS)
    played, kinds = play(server, task.init(), parts, attendance, clients=clients), set()
    width = 2 if "downlink" in options else 8
    for state, seats in zip(played.states, played.seats, strict=False):
        served = server.model(state)
        for client, seat in seats.items():
            decoded, _ = clients.local_models(seat.sent, seat.before, parts[client], seat.ctx)
            assert all(torch.equal(decoded[name], served[name]) for name in served), (seat.ctx, list(seat.sent))
            assert tree.nbytes(seat.sent) <= 8 * task.d + width * options["p"]
            kinds.add(tuple(sorted(seat.sent)))
    return kinds


@pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS.keys())
@settings(max_examples=4)
@given(attendance=attendances)
def test_every_client_decodes_the_servers_model_bit_for_bit(options, attendance):
    check(options, attendance)


def test_it_does_so_by_the_missed_coordinates_and_by_the_anchor():
    steady = {0: True}
    away: Attendance = [
        {**steady, **({1: True} if n in (1, 4, 15) else {}), **({2: n > 9} if n > 5 else {})} for n in range(16)
    ]
    kinds = check({"p": 4, "period": 1}, away)
    assert kinds == {("omegas",), ("anchor",)}
    kinds = check({"p": 11, "period": 2}, away)
    assert kinds == {("omegas",), ("anchor", "omega"), ("anchor",)}


def test_a_client_that_is_never_away_is_sent_p_numbers_and_nothing_in_round_0():
    algorithm = build({"p": 5, "period": 3})
    played = play(algorithm, network.init(), shards(network, 1), [{0: True}] * 8)
    assert [tree.nbytes(seats[0].sent) for seats in played.seats] == [0, *[5 * 8] * 7]


def test_a_client_pays_for_each_period_that_it_missed_until_the_anchor_is_smaller():
    algorithm, rounds = build({"p": 5, "period": 2}), 22
    present: Attendance = [{0: True}] * rounds
    state = play(algorithm, network.init(), shards(network, 1), present).states[-1]
    for seen in range(rounds):
        missed = rounds // 2 - seen // 2
        sent = tree.nbytes(algorithm.broadcast(state, context(rounds, seen=seen))) // 8
        assert sent == (missed * 5 if missed * 5 <= network.d else network.d), seen


def test_a_wire_that_rounds_does_not_touch_the_anchor():
    server = build(SETTINGS["float16 down"])
    attendance: Attendance = [{0: True, **({1: True} if n in (0, 14, 15) else {})} for n in range(16)]
    played = play(server, network.init(), shards(network, 2), attendance)
    assert "anchor" in played.seats[14][1].sent
    assert all(torch.equal(a, b) for a, b in zip(
        tree.leaves(played.seats[15][1].memory), tree.leaves(played.seats[15][0].memory), strict=True))  # fmt: skip


def test_the_history_stays_as_short_as_it_is_useful():
    algorithm = build({"p": 5, "period": 1})
    state = play(algorithm, network.init(), shards(network, 1), [{0: True}] * 20).states[-1]
    assert len(state.x["history"]) <= network.d // 5 + 1
