"""Compressed FedAvg: FedAvg itself where nothing is left out, loops in plain torch, conservation under drops, and bytes
by formulas written down here.
"""

import math
from dataclasses import replace

import pytest
import torch
from catalogue import Tiny, network, shards
from hypothesis import given, settings
from hypothesis import strategies as st
from laws.test_reference_loops import LR, ROUNDS, SIZE, STEPS, after, local
from laws.test_two_phases import attendances, conserved, ravel_by_name

from fedsep import algorithms, operators, random, servers, tree, wires
from fedsep.core import FedSepError
from fedsep.testing import play
from fedsep.testing.draws import context
from fedsep.testing.play import everybody

LOCAL = {"lr": LR, "steps": STEPS, "batch_size": SIZE}
NAMES = sorted(network.init())


def flat(params):
    return torch.cat([params[n].reshape(-1) for n in NAMES])


def shaped(vector):
    like = network.init()
    pieces = zip(NAMES, vector.split([like[n].numel() for n in NAMES]), strict=True)
    shapes = {n: piece.reshape(like[n].shape) for n, piece in pieces}
    return {n: shapes[n] for n in like}


def same(a, b):
    return all(torch.equal(a[n], b[n]) for n in b)


@pytest.mark.parametrize("method", [
    lambda: algorithms.topk_ef(network, k=network.d, **LOCAL),
    lambda: algorithms.topk_ef(network, fraction=1.0, per="tensor", index="golomb", **LOCAL),
    lambda: algorithms.topk_ef(network, k=network.d, downlink=wires.Dense(), **LOCAL),
    lambda: algorithms.dgc(network, fraction=1.0, correction=0.0, warmup=(), **LOCAL),
    lambda: algorithms.powersgd(network, rank=3, downlink=wires.Dense(), **LOCAL),
])  # fmt: skip
def test_where_nothing_is_left_out_it_is_fedavg_bit_for_bit(method):
    plain = after(algorithms.fedavg(network, weighting="uniform", **LOCAL))
    assert same(after(method()), plain)
    assert not torch.equal(plain["0.weight"], network.init()["0.weight"])


def test_changes_that_are_replayed_whole_are_fedavg_up_to_rounding():
    plain = after(algorithms.fedavg(network, weighting="uniform", **LOCAL))
    for method in (
        algorithms.powersgd(network, rank=3, **LOCAL),
        algorithms.topk_ef(network, k=network.d, downlink=wires.topk(network.d), **LOCAL),
    ):
        torch.testing.assert_close(after(method), plain, rtol=1e-10, atol=1e-12)


def changes(server, parts, number):
    return [flat(local(server, part, context(number, client=c, seed=4))) for c, part in enumerate(parts)]


def test_topk_with_error_feedback_equals_a_loop():
    k, parts, server = 4, shards(network), network.init()
    errors = [torch.zeros(network.d) for _ in parts]
    for number in range(ROUNDS):
        total = torch.zeros(network.d)
        for c, dy in enumerate(changes(server, parts, number)):
            u = errors[c] + dy
            sent = torch.where(u.abs() >= u.abs().sort(descending=True).values[k - 1], u, 0.0)
            errors[c], total = u - sent, total + sent / len(parts)
        server = shaped(flat(server) + total)
    torch.testing.assert_close(after(algorithms.topk_ef(network, k=k, **LOCAL)), server, rtol=1e-10, atol=1e-12)


def ternary(u, k):
    """Signs of the k largest, with the mean of their magnitudes (a float32 on the wire)."""
    places = u.abs().argsort(descending=True)[:k]
    mean = u[places].abs().mean().to(torch.float32).double()
    return torch.zeros_like(u).scatter(0, places, torch.where(u[places] < 0, -mean, mean))


def test_sparse_ternary_compression_equals_a_loop():
    k, parts, server = 5, shards(network), flat(network.init())
    held, errors = server.clone(), [torch.zeros(network.d) for _ in parts]
    for number in range(ROUNDS):
        for c, dy in enumerate(changes(shaped(held), parts, number)):
            u = errors[c] + dy
            sent = ternary(u, k)
            errors[c], server = u - sent, server + sent / len(parts)
        held = held + ternary(server - held, k)
    torch.testing.assert_close(after(algorithms.stc(network, k=k, **LOCAL)), shaped(held), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("down", [None, "sign"])
def test_signs_with_error_feedback_equal_a_loop(down):
    def scaled(u):
        parts = {
            n: part.abs().mean().to(torch.float32) * (1 - 2 * (part < 0).double()) for n, part in shaped(u).items()
        }
        return flat(parts)

    parts, server = shards(network), flat(network.init())
    held, errors = server.clone(), [torch.zeros(network.d) for _ in parts]
    for number in range(ROUNDS):
        for c, dy in enumerate(changes(shaped(held), parts, number)):
            u = errors[c] + dy
            errors[c], server = u - scaled(u), server + scaled(u) / len(parts)
        held = held + scaled(server - held) if down else server
    mine = algorithms.signsgd_ef(network, downlink=wires.sign(per="tensor") if down else None, **LOCAL)
    torch.testing.assert_close(after(mine), shaped(held), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("nesterov", "masking"), [(False, True), (True, True), (False, False)])
def test_deep_gradient_compression_equals_a_loop(nesterov, masking):
    m, parts, server = 0.7, shards(network), network.init()
    shares = (0.5, 0.25, 0.1)  # a warm-up of two rounds
    u, v = ([torch.zeros(network.d) for _ in parts] for _ in range(2))
    for number in range(ROUNDS):
        total = torch.zeros(network.d)
        for c, g in enumerate(changes(server, parts, number)):
            u[c] = m * (u[c] + g) if nesterov else m * u[c] + g
            v[c] = v[c] + u[c] + (g if nesterov else 0.0)
            mask = flat({n: part.abs() >= part.abs().reshape(-1).sort(descending=True).values[
                math.ceil(shares[number] * part.numel()) - 1] for n, part in shaped(v[c]).items()})  # fmt: skip
            total += torch.where(mask, v[c], 0.0) / len(parts)
            v[c] = torch.where(mask, 0.0, v[c])
            u[c] = torch.where(mask & masking, 0.0, u[c])
        server = shaped(flat(server) + total)
    mine = algorithms.dgc(
        network, fraction=0.1, warmup=(0.5, 0.25), correction=m, nesterov=nesterov, masking=masking, **LOCAL
    )
    torch.testing.assert_close(after(mine), server, rtol=1e-10, atol=1e-12)


def test_where_everything_is_sent_dgc_is_momentum_of_every_client():
    """Without masking and with all coordinates sent, what is sent is the momentum's update."""
    wire, m = wires.momentum_correction(wires.topk(fraction=1.0), momentum=0.6, masking=False), 0.6
    memory, velocity = wire.init(network.init()), torch.zeros(network.d)
    for number in range(4):
        g = random.normal(random.key(number), network.d)
        velocity = m * velocity + g
        payload, memory = wire.pack(shaped(g), memory, context(number))
        read = wire.unpack(payload, network.init(), context(number))
        torch.testing.assert_close(flat(read), velocity, rtol=1e-12, atol=1e-14)
        assert not flat(memory.v).any()


def test_what_dgc_sent_has_neither_momentum_nor_rest():
    wire = wires.momentum_correction(wires.topk(5), momentum=0.6)
    memory = wire.init(network.init())
    for number in range(3):
        payload, memory = wire.pack(shaped(random.normal(random.key(number), network.d)), memory, context(number))
        sent = flat(wire.unpack(payload, network.init(), context(number))) != 0
        assert int(sent.sum()) == 5
        assert not flat(memory.u)[sent].any()
        assert not flat(memory.v)[sent].any()
        assert flat(memory.u)[~sent].all()


def test_powersgd_equals_a_loop():
    """One exchange: every client's own factors; the server compresses what it is ahead, with a Q of its own."""
    rank, parts, server = 1, shards(network), network.init()
    shapes = {n: part for n, part in server.items() if part.ndim == 2}
    first = wires.low_rank(rank).init(server)
    q = [dict(zip(sorted(shapes), first, strict=True)) for _ in range(len(parts) + 1)]
    held, errors = server, [tree.zeros_like(server) for _ in parts]

    def factored(u, own):
        read = dict(u)
        for n in shapes:
            p = u[n] @ own[n]
            p = p / p.norm()  # at rank 1
            own[n] = u[n].T @ p
            read[n] = p @ own[n].T
        return read

    for number in range(ROUNDS):
        total = tree.zeros_like(server)
        for c, part in enumerate(parts):
            u = tree.add(errors[c], local(held, part, context(number, client=c, seed=4)))
            read = factored(u, q[c])
            errors[c], total = tree.sub(u, read), tree.add(total, read, 1 / len(parts))
        server = tree.add(server, total)
        held = tree.add(held, factored(tree.sub(server, held), q[-1]))
    torch.testing.assert_close(after(algorithms.powersgd(network, rank=rank, **LOCAL)), held, rtol=1e-8, atol=1e-10)


def test_a_matrix_of_rank_one_is_sent_exactly_at_rank_one():
    a, b = random.normal(random.key(1), 5), random.normal(random.key(2), 7)
    message = {"w": torch.outer(a, b), "filter": torch.outer(a, b[:6]).reshape(5, 3, 1, 2), "bias": b}
    wire = wires.low_rank(1)
    payload, warm = wire.pack(message, wire.init(message), context(0))
    assert tree.nbytes(payload) == 8 * (5 + 7 + 5 + 6 + 7)
    torch.testing.assert_close(wire.unpack(payload, message, context(0)), message, rtol=1e-12, atol=1e-14)
    assert [tuple(q.shape) for q in warm] == [(6, 1), (7, 1)]


def test_a_warm_start_follows_a_matrix_that_stands_still():
    """Power iteration: sent again and again, the error tends to the best there is at this rank."""
    message = {"w": random.normal(random.key(3), 6, 8)}
    values = torch.linalg.svdvals(message["w"])
    best = values[2:].square().sum().sqrt()
    wire = wires.low_rank(2)
    memory, errors = wire.init(message), []
    for number in range(60):
        payload, memory = wire.pack(message, memory, context(number))
        errors.append(float((message["w"] - wire.unpack(payload, message, context(number))["w"]).norm()))
    assert errors[0] > 1.05 * best
    assert errors[-1] == pytest.approx(float(best), rel=1e-4)
    nothing = tree.zeros_like(message)
    payload, memory = wire.pack(nothing, memory, context(0))
    assert same(wire.unpack(payload, nothing, context(0)), nothing)
    assert torch.isfinite(wire.unpack(wire.pack(message, memory, context(1))[0], message, context(1))["w"]).all()


UNBIASED = {
    "terngrad": {"sigma": None},
    "qsgd": {"levels": 3, "bucket": 8},
    "eden": {"bits": 2},
}


@pytest.mark.parametrize("name", UNBIASED)
def test_methods_without_memory_are_their_wire_around_fedavg(name):
    """The server moves by the mean of what it reads, no more and no less; the wires' own laws are in test_wires."""
    method, parts = getattr(algorithms, name)(network, **UNBIASED[name], **LOCAL), shards(network)
    played = play(method, network.init(), parts, everybody(len(parts), ROUNDS), seed=4)
    server = network.init()
    for number, seats in enumerate(played.seats):
        read = []
        for c, seat in seats.items():
            dy = local(server, parts[c], context(number, client=c, seed=4))
            payload, _ = method.uplink.pack(dy, (), seat.ctx)
            read.append(method.uplink.unpack(payload, dy, seat.ctx))
            assert not torch.allclose(flat(read[-1]), flat(dy))
        server = {n: server[n] + sum(each[n] for each in read) / len(read) for n in server}
    torch.testing.assert_close(method.model(played.states[-1]), server, rtol=1e-9, atol=1e-11)


REMEMBERING = {
    "topk_ef": lambda: algorithms.topk_ef(network, k=3, steps=2, batch_size=4),
    "topk_ef with narrow values": lambda: algorithms.topk_ef(
        network, k=3, values=wires.dense(dtype="bfloat16"), index="golomb", steps=2, batch_size=4
    ),
    "stc": lambda: algorithms.stc(network, k=3, steps=2, batch_size=4),
    "signsgd_ef": lambda: algorithms.signsgd_ef(network, steps=2, batch_size=4),
    "powersgd": lambda: algorithms.powersgd(network, steps=2, batch_size=4),
}


@pytest.mark.parametrize("make", REMEMBERING.values(), ids=REMEMBERING.keys())
@settings(max_examples=6)
@given(attendance=attendances)
def test_what_was_read_and_what_is_remembered_is_all_there_was_under_drops(make, attendance):
    algorithm, parts = make(), shards(network, 2)
    played = play(algorithm, network.init(), parts, attendance)
    errors = replace(algorithm, uplink=_OnlyErrors(algorithm.uplink))
    for client in range(2):
        conserved(errors, _with_errors(played), parts, client)


PERIOD = 3


@settings(max_examples=6)
@given(attendance=attendances)
def test_errors_of_a_sketch_are_all_there_was_inside_a_period_under_drops(attendance):
    """A period's errors are of its own coordinates: they begin with it, whoever was away when the last one ended."""
    algorithm = algorithms.fedsep_quantised(network, p=8, period=PERIOD, scale_bits=32, steps=2, batch_size=4)
    played, parts = play(algorithm, network.init(), shards(network, 2), attendance), shards(network, 2)
    errors = replace(algorithm, uplink=_OnlyErrors(algorithm.uplink))
    for first in range(0, len(attendance), PERIOD):
        period = played._replace(seats=played.seats[first : first + PERIOD])
        for client in range(2):
            conserved(errors, _with_errors(period), parts, client)


def test_linear_with_a_few_bits_down_is_quantised_with_floats_up():
    few = {"p": 8, "period": 2, "uplink": wires.Dense(), "downlink": wires.lloyd_max(bits=2), **LOCAL}
    played = [
        play(method, network.init(), shards(network), everybody(2, 5)).states
        for method in (
            algorithms.fedsep_linear(network, operator=operators.dct, **few),
            algorithms.fedsep_quantised(network, **few),
        )
    ]
    assert not torch.equal(played[0][-1].x["omega"], played[0][-1].x["sent"])
    for a, b in zip(tree.leaves(played[0]), tree.leaves(played[1]), strict=True):
        assert torch.equal(torch.as_tensor(a), torch.as_tensor(b))


class _OnlyErrors:
    """The uplink, as ``conserved`` asks for it: it reads."""

    def __init__(self, wire):
        self.unpack = wire.unpack


def _with_errors(played):
    def stripped(seat):
        return seat._replace(memory=seat.memory._replace(wire=seat.memory.wire.error))

    return played._replace(seats=[{c: stripped(seat) for c, seat in seats.items()} for seats in played.seats])


@settings(max_examples=6)
@given(attendance=attendances)
def test_dgc_keeps_what_it_did_not_send_under_drops(attendance):
    """Without masking: read + v is the sum of the momenta of the accepted rounds."""
    algorithm = algorithms.dgc(network, fraction=0.2, warmup=(), masking=False, steps=2, batch_size=4)
    played = play(algorithm, network.init(), shards(network, 2), attendance)
    for client in range(2):
        read, momenta, waiting = torch.zeros(network.d), torch.zeros(network.d), torch.zeros(network.d)
        for seat in (seats[client] for seats in played.seats if client in seats and seats[client].accepted):
            read += ravel_by_name(algorithm.uplink.unpack(seat.reply, network.init(), seat.ctx))[0]
            momenta += ravel_by_name(seat.memory.wire.u)[0]
            waiting = ravel_by_name(seat.memory.wire.v)[0]
        torch.testing.assert_close(read + waiting, momenta, rtol=1e-12, atol=1e-13)


SIZES = [Tiny(hidden=0), network, Tiny(hidden=50)]


def sent(method, task, number=2):
    """Bytes up and down of client 0 in the third round, in float32 as in a real run."""
    parts = shards(task)
    played = play(method, task.init(), parts, everybody(len(parts), number + 1), cross=lambda payload: payload)
    seat = played.seats[number][0]
    return seat, tree.nbytes(seat.reply), tree.nbytes(seat.sent)


@pytest.fixture
def single():
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("single")
@pytest.mark.parametrize("task", SIZES, ids=lambda task: f"d={task.d}")
def test_bytes_are_those_of_the_formulas(task):
    d, k, tensors = task.d, 5, [part.numel() for part in task.init().values()]
    local = {"steps": 2, "batch_size": 4}
    bits = math.ceil(math.log2(d))
    for index, positions in (("int32", 4 * k), ("packed", math.ceil(k * bits / 8))):
        _, up, _ = sent(algorithms.topk_ef(task, k=k, index=index, **local), task)
        assert up == positions + 4 * k
    _, up, down = sent(algorithms.signsgd_ef(task, downlink=wires.sign(), **local), task)
    assert (up, down) == (sum(math.ceil(n / 8) + 4 for n in tensors), math.ceil(d / 8) + 4)
    _, up, down = sent(algorithms.terngrad(task, **local), task)
    assert (up, down) == (sum(math.ceil(n / 4) + 4 for n in tensors), 4 * d)
    _, up, down = sent(algorithms.qsgd(task, levels=7, bucket=16, downlink=wires.qsgd(1, bucket=16), **local), task)
    norms = 4 * math.ceil(d / 16)
    assert (up, down) == (norms + math.ceil(d * 4 / 8), norms + math.ceil(d * 2 / 8))
    _, up, down = sent(algorithms.eden(task, bits=1, fraction=0.3, bits_down=2, **local), task)
    assert (up, down) == (math.ceil(math.ceil(0.3 * d) / 8) + 4, math.ceil(d * 2 / 8) + 4)
    _, up, down = sent(algorithms.powersgd(task, rank=1, **local), task)
    factors = sum(min(sum(p.shape), p.numel()) if p.ndim == 2 else p.numel() for p in task.init().values())
    assert (up, down) == (4 * factors, 4 * factors)
    _, up, _ = sent(algorithms.dgc(task, fraction=0.2, warmup=(0.5,), warmup_rounds=2, **local), task)
    assert up == 8 * sum(math.ceil(0.2 * n) for n in tensors)
    _, up, _ = sent(algorithms.dgc(task, fraction=0.2, warmup=(0.5,), warmup_rounds=2, **local), task, number=1)
    assert up == 8 * sum(math.ceil(0.5 * n) for n in tensors)


@pytest.mark.usefixtures("single")
@pytest.mark.parametrize("task", SIZES, ids=lambda task: f"d={task.d}")
def test_both_index_conventions_can_be_read_off_the_ledger(task):
    """Positions are counted under a name of their own: without them exactly 4 bytes a value less."""
    seat, up, down = sent(algorithms.topk_ef(task, k=2, steps=2, batch_size=4), task)
    by_part = tree.named_bytes(seat.reply)
    assert by_part == {"index": 4 * 2, "values": 4 * 2}
    assert up - by_part["index"] == 4 * 2
    told = tree.named_bytes(seat.sent)
    assert told["index"] == told["value"] == down / 2 <= 4 * 2 * 2


@pytest.mark.usefixtures("single")
def test_the_smaller_of_changes_and_model_is_sent_down():
    for k, dense in ((2, False), (network.d, True)):
        seat, _, down = sent(algorithms.topk_ef(network, k=k, steps=2, batch_size=4), network)
        assert list(seat.sent) == (["model"] if dense else ["index", "value"])
        assert (down == 4 * network.d) is dense
    seat, _, _ = sent(algorithms.topk_ef(network, k=2, server=servers.sgd(momentum=0.5), steps=2), network)
    played = play(
        algorithms.topk_ef(network, k=1, steps=2), network.init(), shards(network), [{0: True}, {}, {1: True}]
    )
    assert tree.named_bytes(played.seats[2][1].sent) == {"index": 4, "value": 4}  # what it missed, and no more


def test_sparse_ternary_compression_takes_the_bytes_of_its_formula_in_the_mean():
    """k (1 + b + 1 / (1 - (1 - k/d)^(2^b))) / 8 + 4 for random positions: 269 and 151 bytes at d = 24,234."""
    d, wire = 24_234, {k: wires.topk(k, values=wires.sign(), index="golomb") for k in (100, 50)}
    message = [random.normal(random.key(seed), d) for seed in range(20)]
    for k, told in ((100, 269), (50, 151)):
        golden = (math.sqrt(5) + 1) / 2
        low = 1 + math.floor(math.log2(math.log(golden - 1) / math.log(1 - k / d)))
        formula = k * (1 + low + 1 / (1 - (1 - k / d) ** 2**low)) / 8 + 4
        assert round(2 * formula) == told  # both ways
        measured = [tree.nbytes(wire[k].pack(u, (), context(0))[0]) for u in message]
        whole_bytes = math.ceil(k / 8) - k / 8 + 7 / 16  # signs end at a byte, and so do positions: 7/16 in the mean
        assert sum(measured) / len(measured) == pytest.approx(formula + whole_bytes, rel=0.005)


def test_an_unbiased_downlink_leaves_nothing_behind_and_a_contracting_one_owes():
    parts = shards(network)
    for wire, owes in ((wires.qsgd(1, bucket=4), False), (wires.eden(), False), (wires.sign(), True)):
        method = algorithms.fedavg(network, downlink=wire, **LOCAL)
        x = play(method, network.init(), parts, everybody(len(parts), 2)).states[-1].x
        assert same(x["omega"], x["sent"]) is not owes


@pytest.mark.parametrize(("wire", "owes"), [
    (wires.qsgd(1), False),
    (wires.random_k(2, unbiased=True), False),
    (wires.count_sketch(rows=1, cells=2), False),
    (wires.topk(2), True),
    (wires.lloyd_max(bits=1), True),
])  # fmt: skip
def test_a_sketch_is_announced_by_the_same_rule(wire, owes):
    method, parts = algorithms.fedsep_quantised(network, p=8, period="never", downlink=wire, **LOCAL), shards(network)
    for state in play(method, network.init(), parts, everybody(len(parts), 6)).states[1:]:
        assert torch.equal(state.x["omega"], state.x["sent"]) is not owes
        assert float(state.x["omega"].norm()) < 100


@pytest.mark.parametrize(("make", "says"), [
    (lambda: algorithms.topk_ef(network), r"topk_ef: give one of k and fraction \(got k=None, fraction=None\)"),
    (lambda: algorithms.topk_ef(network, k=28), r"topk_ef: k must be at most 27.*\(got 28\)"),
    (lambda: algorithms.topk_ef(network, k=4, per="tensor"), r"topk_ef: k must be at most 3,"),
    (lambda: algorithms.topk_ef(network, k=4, uplink=wires.dense()), "topk_ef: give k, fraction or uplink"),
    (lambda: algorithms.stc(network, k=28), r"stc: k must be at most 27"),
    (lambda: algorithms.stc(network, k=2, fraction=0.1), r"stc: give one of k and fraction"),
    (lambda: algorithms.stc(network, k=2, k_down=99), r"stc: k_down must be at most 27.*got 99"),
    (lambda: algorithms.stc(network, k=2, downlink=wires.error_feedback(wires.sign())),
     "downlink must be a wire without error feedback"),
    (lambda: algorithms.fedsep_quantised(network, p=6, downlink=wires.error_feedback(wires.sign())),
     "downlink must be a wire without error feedback"),
    (lambda: algorithms.eden(network, bits=9), r"eden: bits must be >= 1 and <= 8 \(got 9\)"),
    (lambda: algorithms.eden(network, bits_down=1, downlink=wires.sign()), "give bits_down or downlink, not both"),
    (lambda: algorithms.qsgd(network, levels=0), r"qsgd: levels must be >= 1"),
    (lambda: algorithms.powersgd(network, rank=0), r"powersgd: rank must be >= 1"),
    (lambda: algorithms.dgc(network, fraction=0.0), r"dgc: fraction must be > 0"),
    (lambda: wires.staged(()), r"staged: stages must name at least one wire"),
    (lambda: wires.staged((wires.error_feedback(wires.topk(1)),)).init(network.init()),
     "remembers, so it goes around Staged"),
])  # fmt: skip
def test_bad_arguments_are_refused_before_anything_runs(make, says):
    with pytest.raises(FedSepError, match=says):
        make()


@given(rounds=st.integers(1, 3), number=st.integers(0, 12))
def test_the_warm_up_lasts_as_long_as_it_is_told(rounds, number):
    wire = wires.staged((wires.topk(9), wires.topk(5), wires.topk(2)), rounds=rounds)
    payload, _ = wire.pack(network.init(), (), context(number))
    assert payload["values"].numel() == (9, 5, 2)[min(number // rounds, 2)]
    read = wire.unpack(payload, network.init(), context(number))
    assert int((flat(read) != 0).sum()) == payload["values"].numel()
