"""FetchSGD against a reference of dense matrices, its conservation law, and what is refused."""

from dataclasses import replace

import pytest
import torch
from catalogue import Tiny, network, shards

from fedsep import algorithms, random, tree, wires
from fedsep.algorithms import fedavg, fetchsgd
from fedsep.core import FedSepError, Update
from fedsep.pairs import findings
from fedsep.servers.fetchsgd import FetchSGD, heavy
from fedsep.testing.algorithms import rehearse
from fedsep.wires.count_sketch import CountSketchWire, Table

D, SKETCH = 40, Table(3, 11, seed=5)
SIGNED = SKETCH.over(torch.zeros(D)).rmv(torch.eye(33)).view(3, 11, D)  # the sketch written out


def halving(round: int) -> float:
    return 0.5**round


OPTIONS = {
    "as in the code": {},
    "with momentum": {"momentum": 0.9},
    "as printed": {"momentum": 0.9, "error_update": "subtract", "lr_in_error": True, "mask_momentum": False},
    "subtract, masked": {"momentum": 0.5, "error_update": "subtract"},
    "zeroed, unmasked": {"momentum": 0.5, "mask_momentum": False, "lr_in_error": True},
}


def rounds(count: int = 5, clients: int = 2):
    """Tables of random changes, as the uplink hands them over."""
    changes = [[random.normal(random.key(10 * n + c), D) for c in range(clients)] for n in range(count)]
    return changes, [[Update({"model": {"table": SIGNED.view(33, D) @ v}}) for v in row] for row in changes]


def play(server: FetchSGD, updates):
    """x and the server's state after every round."""
    x = {"model": {"w": torch.zeros(D)}, "changed": {}, "round": torch.tensor(0)}
    state, seen = server.init(x), []
    for number, replies in enumerate(updates):
        x, state = server.step({**x, "round": torch.tensor(number)}, iter(replies), state)
        seen.append((x["model"]["w"], state))
    return seen


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_variant_against_loops_over_dense_matrices(options):
    """Written down row by row and coordinate by coordinate; eta_g = 0.3, halved every round; k = 4."""
    rho, inside = options.get("momentum", 0.0), options.get("lr_in_error", False)
    changes, updates = rounds()
    w, moving, error = torch.zeros(D), torch.zeros(3, 11), torch.zeros(3, 11)
    played = play(FetchSGD(SKETCH, 4, lr=0.3, schedule=halving, **options), updates)
    for number, row in enumerate(changes):
        rate = 0.3 * 0.5**number
        moving = rho * moving + SIGNED @ (sum(row) / len(row))
        error = error + (rate if inside else 1.0) * moving
        estimate = torch.tensor([sorted(float(SIGNED[i, :, j] @ error[i]) for i in range(3))[1] for j in range(D)])
        taken = torch.zeros(D)
        for j in sorted(range(D), key=lambda j: -abs(estimate[j]))[:4]:
            taken[j] = estimate[j]
        touched = (SIGNED @ taken) != 0
        error = error - SIGNED @ taken if options.get("error_update") == "subtract" else error.masked_fill(touched, 0)
        moving = moving.masked_fill(touched, 0) if options.get("mask_momentum", True) else moving
        w = w + (1.0 if inside else rate) * taken
        model, state = played[number]
        torch.testing.assert_close(model, w)
        torch.testing.assert_close((state.momentum, state.error), (moving.view(-1), error.view(-1)))


def test_subtracting_conserves_what_came():
    """sum_t eta_t M_t = E + S sum_t D_t, all tables."""
    server = FetchSGD(SKETCH, 3, lr=0.3, momentum=0.8, error_update="subtract", lr_in_error=True,
                      mask_momentum=False, schedule=halving)  # fmt: skip
    _, updates = rounds(8)
    played = play(server, updates)
    came = sum(0.3 * 0.5**n * state.momentum for n, (_, state) in enumerate(played))
    w, last = played[-1]
    torch.testing.assert_close(came, last.error + SIGNED.view(33, D) @ w)
    assert float(last.error.abs().max()) > 0.01


def test_nobody_replied_and_nothing_moves():
    server = FetchSGD(SKETCH, 3, momentum=0.5)
    x = {"model": {"w": torch.ones(D)}, "changed": {}, "round": torch.tensor(0)}
    state = server.init(x)
    assert state.momentum.shape == state.error.shape == (33,)
    moved, after = server.step(x, iter([]), state)
    assert moved is x
    assert after is state


def test_heavy_keeps_the_largest():
    assert heavy(torch.tensor([0.1, -3.0, 2.0, 0.0]), 2).tolist() == [0, -3, 2, 0]
    assert heavy(torch.tensor([1.0, -2.0] * 50), 3).nonzero()[:, 0].tolist() == [1, 3, 5]


@pytest.mark.parametrize("error_update", ["zero_cells", "subtract"])
def test_a_table_as_wide_as_the_model_is_fedavg(error_update):
    """One row, c = k = d, rho = 0: the hash is a rotation, nothing collides, everything is taken out."""
    played = [
        rehearse(method, network, shards(network))
        for method in (
            fedavg(network, steps=2, batch_size=4, weighting="uniform"),
            fetchsgd(network, p=network.d, rows=1, k=network.d, error_update=error_update, steps=2, batch_size=4),
        )
    ]
    plain, sketched = ([state.x for state in each.states] for each in played)
    assert len(plain) > 3
    for a, b in zip(plain, sketched, strict=True):
        torch.testing.assert_close(b["model"], a, rtol=1e-12, atol=1e-14)
    assert tree.dot(plain[0], plain[0]) != tree.dot(plain[-1], plain[-1])


def test_a_server_whose_sketch_is_not_the_wire_s_is_refused():
    method = fetchsgd(network, p=15, rows=3, k=2)
    for other in (Table(3, 5, seed=1), Table(5, 3), Table(1, 15)):
        wire = CountSketchWire(other, opened=False)
        found = findings(replace(method, uplink=wire), network.init())
        assert [each.fatal for each in found] == [True]
        staged = findings(replace(method, uplink=wires.staged((wire,))), network.init())
        assert [each.fatal for each in staged] == [True]
        assert "each has a sketch of its own" in staged[0].text
        assert "uplink CountSketchWire" in found[0].text or "and wire" in found[0].text
        assert "each has a sketch of its own" in found[0].text
    assert findings(method, network.init()) == []


def test_opened_tables_and_other_servers_are_refused():
    method = fetchsgd(network, p=15, rows=3, k=2)
    for misfit in (
        replace(method, uplink=wires.count_sketch(rows=3, cells=5)),
        replace(method, uplink=wires.dense()),
        replace(fedavg(network), uplink=CountSketchWire(Table(3, 5), opened=False)),
    ):
        found = findings(misfit, network.init())
        assert [each.fatal for each in found] == [True]
        assert "does not fit uplink" in found[0].text or "do not fit" in found[0].text


def test_what_is_sent_is_linear_and_the_same_for_all():
    wire = wires.count_sketch(rows=3, cells=7, seed=2)
    a, b = ({"w": random.normal(random.key(n), 30)} for n in range(2))
    tables = [wire.pack(each, (), None)[0]["table"] for each in (a, b, tree.add(a, b, -2.0))]
    torch.testing.assert_close(tables[2], tables[0] - 2 * tables[1])
    assert tables[0].numel() == 21
    assert not torch.equal(wires.count_sketch(rows=3, cells=7, seed=3).pack(a, (), None)[0]["table"], tables[0])


@pytest.mark.parametrize(("values", "error"), [("float32", 2**-24), ("float16", 2**-11), ("bfloat16", 2**-8)])
def test_short_values_take_their_bytes_and_lose_a_rounding(values, error):
    sent = {"w": random.normal(random.key(3), 8, 9)}
    for plain, short in (
        (wires.count_sketch(rows=3, cells=7), wires.count_sketch(rows=3, cells=7, values=values)),
        (wires.low_rank(2), wires.low_rank(2, values=values)),
    ):
        exact, rounded = (wire.pack(sent, wire.init(sent), None)[0] for wire in (plain, short))
        assert tree.nbytes(rounded) == tree.nbytes(exact) * (4 if values == "float32" else 2) // 8
        a, b = plain.unpack(exact, sent, None)["w"], short.unpack(rounded, sent, None)["w"]
        assert 0 < float((a - b).norm()) < 4 * error * float(a.norm())
        assert a.dtype == b.dtype


def test_a_wide_table_gives_the_message_back():
    wire = wires.count_sketch(rows=3, cells=64)
    sent = {"b": random.normal(random.key(1), 4), "a": random.normal(random.key(2), 5, 6)}
    read = wire.unpack(wire.pack(sent, (), None)[0], sent, None)
    assert all(torch.equal(read[name], part) for name, part in sent.items())


def test_defaults_of_rows_and_k():
    for p, rows, k in ((10, 1, 1), (45, 1, 4), (50, 5, 1), (500, 5, 10), (2000, 5, 40)):
        server = algorithms.fetchsgd(Tiny(hidden=400), p=p).server.server
        assert (server.sketch.rows, server.sketch.cells, server.k) == (rows, p // rows, k)


@pytest.mark.parametrize(("arguments", "text"), [
    ({"p": 12, "rows": 2}, r"rows must be odd.*\(got 2\)"),
    ({"p": 14, "rows": 3}, r"p must be a multiple of rows = 3 \(got 14\)"),
    ({"p": 28}, r"fetchsgd: p must be at most d = 27, the number of model parameters \(got 28\)"),
    ({"p": 10, "k": 28}, r"k must be at most d = 27.*\(got 28\)"),
    ({"p": 0}, r"p must be >= 1 \(got 0\)"),
    ({"p": 10, "error_update": "forget"}, r"error_update must be zero_cells or subtract"),
])  # fmt: skip
def test_bad_arguments_are_refused_by_name(arguments, text):
    with pytest.raises(FedSepError, match=text):
        fetchsgd(network, **arguments)


def test_an_even_number_of_rows_is_refused_by_the_wire():
    with pytest.raises(FedSepError, match=r"count_sketch: rows must be odd.*\(got 4\)"):
        wires.count_sketch(rows=4, cells=3)
