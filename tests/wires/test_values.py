"""What the wires read: against formulas, tables and plain code."""

import itertools
import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from fedsep import random, tree, wires
from fedsep.core import FedSepError
from fedsep.testing.draws import context, random_like
from fedsep.wires.code_book import code_book
from fedsep.wires.rotated import rotate, rotate_back
from fedsep.wires.scales import BYTE_ERROR, HIGHEST, LOWEST, not_below, pack_scale, read_scale

CTX = context(3, seen=2)


def read(wire, sent, ctx=CTX):
    return wire.unpack(wire.pack(sent, wire.init(sent), ctx)[0], sent, ctx)


def normal(count, seed=0):
    return random.normal(random.key(seed), count)


# Max 1960, table I: distortion of 1 to 4 bits; 1 bit is 1 - 2/pi
DISTORTION = {1: 0.3634, 2: 0.1175, 3: 0.03454, 4: 0.009497}
LEVELS = {1: [0.7980], 2: [0.4528, 1.510], 3: [0.2451, 0.7560, 1.344, 2.152]}


@pytest.mark.parametrize("bits", range(1, 9))
def test_levels_and_bounds_meet_lloyds_conditions(bits):
    levels, bounds = (part.tolist() for part in code_book(bits))
    assert len(levels) == 2**bits
    assert levels == [-level for level in reversed(levels)]
    ends = [-math.inf, *bounds, math.inf]
    density = stats.norm.pdf
    for level, low, high in zip(levels, ends[:-1], ends[1:], strict=True):
        mean = integrate.quad(lambda x: x * density(x), low, high, epsabs=1e-14)[0]
        mass = integrate.quad(density, low, high, epsabs=1e-14)[0]
        assert level == pytest.approx(mean / mass, abs=2e-5)
    assert bounds == pytest.approx([(a + b) / 2 for a, b in itertools.pairwise(levels)])


@pytest.mark.parametrize("bits", DISTORTION)
def test_distortion_of_normal_coordinates_is_the_published_one(bits):
    levels, bounds = code_book(bits)
    ends = torch.tensor([-40.0, *bounds.tolist(), 40.0]).tolist()
    cells = zip(levels.tolist(), ends[:-1], ends[1:], strict=True)
    parts = [integrate.quad(lambda x, c=c: (x - c) ** 2 * stats.norm.pdf(x), a, b)[0] for c, a, b in cells]
    assert sum(parts) == pytest.approx(DISTORTION[bits], rel=1e-3)
    if bits in LEVELS:
        assert levels[levels > 0].tolist() == pytest.approx(LEVELS[bits], rel=1e-3)
    sent = normal(200_000)
    lost = (read(wires.lloyd_max(bits=bits), sent) - sent).square().mean() / sent.square().mean()
    assert float(lost) == pytest.approx(DISTORTION[bits], rel=0.02)


@pytest.mark.parametrize("bits", range(1, 9))
def test_lloyd_max_picks_the_nearest_level_and_the_best_scale(bits):
    sent = normal(301, seed=bits)
    got = read(wires.lloyd_max(bits=bits), sent)
    levels = code_book(bits).levels
    unit = sent / sent.square().mean().sqrt()
    q = levels[(unit[:, None] - levels).abs().argmin(1)]
    scale = torch.linalg.lstsq(q[:, None], sent[:, None]).solution[0, 0]
    torch.testing.assert_close(got, scale * q, rtol=1e-6, atol=0)
    q_scaled = read(wires.lloyd_max(bits=bits, scale="unbiased"), sent)
    torch.testing.assert_close(q_scaled @ sent, sent @ sent, rtol=1e-6, atol=0)


def test_one_bit_of_lloyd_max_is_the_scaled_sign():
    sent = normal(77)
    torch.testing.assert_close(read(wires.lloyd_max(bits=1), sent), read(wires.sign(), sent), rtol=1e-6, atol=0)


@given(size=st.integers(1, 40), value=st.sampled_from([0.5, 3.0, -0.25, 1024.0]), bits=st.integers(1, 8))
def test_constant_magnitudes_are_exact_for_sign_and_close_for_lloyd_max(size, value, bits):
    sent = torch.full((size,), value) * (1 - 2 * (torch.arange(size) % 2))
    assert torch.equal(read(wires.sign(), sent), sent)
    torch.testing.assert_close(read(wires.lloyd_max(bits=bits), sent), sent, rtol=1e-7, atol=0)


def test_sign_and_zero():
    sent = torch.tensor([0.0, -0.0, 4.0, -2.0])
    assert read(wires.sign(), sent).tolist() == [1.5, 1.5, 1.5, -1.5]
    per_tensor = read(wires.sign(per="tensor"), {"b": sent, "a": torch.tensor([-8.0])})
    assert per_tensor["b"].tolist() == [1.5, 1.5, 1.5, -1.5]
    assert per_tensor["a"].tolist() == [-8.0]
    no_zero = torch.tensor([1.0, -5.0, 4.0, -2.0])
    delta = float(no_zero.abs().sum() ** 2 / (4 * no_zero.square().sum()))
    lost = (read(wires.sign(), no_zero) - no_zero).square().sum()
    assert float(lost) == pytest.approx((1 - delta) * float(no_zero.square().sum()))


@given(numbers=st.lists(st.floats(-100, 100), min_size=1, max_size=30), data=st.data())
def test_topk_keeps_the_largest(numbers, data):
    sent = torch.tensor(numbers)
    k = data.draw(st.integers(1, len(numbers)))
    got = read(wires.topk(k), sent)
    kept = got != 0
    assert torch.equal(got[kept], sent[kept])
    by_size = sorted((abs(number) for number in numbers), reverse=True)
    assert sorted(got.abs().tolist(), reverse=True)[:k] == by_size[:k]
    assert int(kept.sum()) <= k
    assert float((got - sent).square().sum()) <= (1 - k / len(numbers)) * float(sent.square().sum()) + 1e-9


def test_topk_of_each_tensor_differs_from_topk_of_all():
    sent = {"small": torch.tensor([1.0, 2.0, 3.0]), "large": torch.tensor([10.0, 20.0, 30.0])}
    assert read(wires.topk(2), sent)["small"].tolist() == [0, 0, 0]
    assert read(wires.topk(1, per="tensor"), sent)["small"].tolist() == [0, 0, 3]
    assert read(wires.topk(fraction=0.4, per="tensor"), sent)["large"].tolist() == [0, 20, 30]


@pytest.mark.parametrize(("fraction", "size", "count"), [(0.1, 30, 3), (0.1, 3, 1), (0.3, 10, 3), (1.0, 7, 7)])
def test_a_fraction_is_rounded_up_and_not_by_the_rounding_of_floats(fraction, size, count):
    assert wires.topk(fraction=fraction).count(size) == count
    assert wires.random_k(fraction=fraction).count(size) == count


def test_sparse_ternary_is_the_mean_magnitude_of_the_chosen():
    got = read(wires.topk(3, values=wires.sign(), index="golomb"), torch.tensor([1.0, -7.0, 0.5, 3.0, -2.0, 0.0]))
    assert got.tolist() == [0, -4, 0, 4, -4, 0]


def test_random_k_sends_no_positions_and_draws_every_coordinate_alike():
    wire, sent, counts = wires.random_k(3), torch.ones(10), torch.zeros(10)
    for seed in range(1000):
        ctx = context(seed)
        payload, _ = wire.pack(sent, (), ctx)
        assert payload.shape == (3,)
        counts += wire.unpack(payload, sent, ctx)
    assert stats.chisquare(counts.tolist()).pvalue > 1e-3
    scaled = read(wires.random_k(3, unbiased=True), torch.full((12,), 2.0))
    assert sorted(scaled.tolist())[-4:] == [0.0, 8.0, 8.0, 8.0]


def test_a_shared_support_is_that_of_every_client_and_changes_with_the_round():
    sent = torch.arange(1.0, 31.0)

    def support(wire, number, client):
        ctx = context(number, client=client)
        return tuple(wire.unpack(wire.pack(sent, (), ctx)[0], sent, ctx).nonzero()[:, 0].tolist())

    shared, own = wires.random_k(3, shared=5), wires.random_k(3)
    assert len({support(shared, 0, client) for client in range(6)}) == 1
    assert len({support(own, 0, client) for client in range(6)}) == 6
    assert len({support(shared, number, 0) for number in range(6)}) == 6
    assert support(shared, 0, 0) != support(wires.random_k(3, shared=6), 0, 0)
    seen = Counter(at for number in range(1000) for at in support(shared, number, 0))
    assert stats.chisquare([seen[at] for at in range(30)]).pvalue > 1e-3


def test_the_mean_over_clients_of_a_shared_support_is_the_clients_mean_there():
    wire, changes = wires.random_k(4, shared=1), [normal(20, seed=client) for client in range(3)]
    contexts = [context(2, client=client) for client in range(3)]
    reads = [wire.unpack(wire.pack(u, (), ctx)[0], u, ctx) for u, ctx in zip(changes, contexts, strict=True)]
    mean, wanted = torch.stack(reads).mean(0), torch.stack(changes).mean(0)
    assert torch.count_nonzero(mean) == 4
    torch.testing.assert_close(mean, torch.where(mean != 0, wanted, 0.0))


@pytest.mark.parametrize("size", [0, 1, 2, 3, 5, 64, 100, 1000, 1023])
def test_a_rotation_keeps_lengths_and_can_be_undone(size):
    vector, other, key = normal(size), normal(size, seed=5), random.key(9)
    turned = rotate(vector, key)
    torch.testing.assert_close(turned @ rotate(other, key), vector @ other)
    torch.testing.assert_close(rotate_back(turned, key), vector)


@pytest.mark.parametrize("size", [700, 1000])
@pytest.mark.parametrize("kind", ["normal", "two", "last", "heavy"])
def test_eden_has_the_error_of_the_theory_and_no_bias_whatever_the_message(size, kind):
    sent = {
        "normal": normal(size),
        "two": torch.cat([torch.tensor([2.0, 1.0]), torch.zeros(size - 2)]),
        "last": torch.cat([torch.zeros(size - 2), torch.tensor([2.0, 1.0])]),
        "heavy": normal(size) ** 5,
    }[kind]
    draws = 100
    reads = torch.stack([read(wires.eden(), sent, context(seed)) for seed in range(draws)])
    errors = (reads - sent).square().sum(1) / sent.square().sum()
    assert float(errors.mean()) == pytest.approx(math.pi / 2 - 1, abs=0.03)
    bias = (reads.mean(0) - sent).norm() / sent.norm()
    assert float(bias) == pytest.approx(math.sqrt((math.pi / 2 - 1) / draws), rel=0.15)  # its noise and no more


@pytest.mark.parametrize("bits", [2, 4])
def test_eden_of_more_bits(bits):
    sent = normal(1500) ** 3
    errors = torch.stack([(read(wires.eden(bits=bits), sent, context(s)) - sent).square().sum() for s in range(40)])
    assert float(errors.mean() / sent.square().sum()) == pytest.approx(1 / (1 - DISTORTION[bits]) - 1, rel=0.05)


def test_clip_shortens_what_is_long_and_leaves_the_rest():
    sent = random_like({"b": torch.zeros(4), "a": torch.zeros(3, 3)}, 0)
    length = float(tree.norm(sent))
    assert float(tree.norm(read(wires.clip(length / 3), sent))) == pytest.approx(length / 3)
    assert torch.equal(read(wires.clip(length * 1.01), sent)["a"], sent["a"])
    direction = tree.dot(read(wires.clip(length / 3), sent), sent) / (length * length / 3)
    assert float(direction) == pytest.approx(1.0)


def test_parts_go_by_wires_of_their_own_and_whole_numbers_as_they_are():
    sent = {"omega": normal(40), "epoch": torch.tensor(7), "anchor": {"w": normal(6)}}
    got = read(wires.by_name(omega=wires.sign()), sent)
    assert torch.equal(got["epoch"], sent["epoch"])
    assert torch.equal(got["anchor"]["w"], sent["anchor"]["w"])
    assert torch.equal(got["omega"], read(wires.sign(), sent["omega"]))
    with pytest.raises(FedSepError, match=r"int64.*by_name"):
        wires.sign().init(sent)


@given(exponent=st.floats(LOWEST, HIGHEST))
def test_a_scale_in_a_byte_is_as_close_as_it_says(exponent):
    scale = torch.tensor(2.0**exponent)
    packed = pack_scale(scale, 8)
    assert packed.dtype == torch.uint8
    assert abs(float(read_scale(packed, scale.dtype) / scale) - 1) <= BYTE_ERROR * (1 + 1e-9)


def test_a_scale_in_a_byte_ends_where_it_says():
    def through(scale):
        return float(read_scale(pack_scale(torch.tensor(scale), 8), torch.float64))

    assert through(0.0) == 0.0
    assert through(2.0**LOWEST / 10) == 0.0
    assert through(1e30) == through(2.0**HIGHEST) == 2.0**HIGHEST


@given(value=st.floats(1e-30, 1e30))
def test_a_rounded_scale_is_not_below(value):
    scale = torch.tensor(value)
    assert value <= float(not_below(scale)) <= value * (1 + 2.0**-23)


NOTHING = {"topk": wires.topk(fraction=0.5), "sign": wires.sign(), "ternary": wires.ternary(), "eden": wires.eden()}


@pytest.mark.parametrize("name", [*NOTHING, "qsgd", "lloyd_max", "unbiased", "clip", "random_k"])
def test_messages_of_zeros_of_one_number_and_of_none(name):
    more = {
        "qsgd": wires.qsgd(3),
        "lloyd_max": wires.lloyd_max(bits=3, scale_bits=8),
        "unbiased": wires.lloyd_max(bits=3, scale="unbiased"),
        "clip": wires.clip(1.0),
        "random_k": wires.random_k(fraction=0.5),
    }
    wire = {**NOTHING, **more}[name]
    for sent in (torch.zeros(9), -torch.zeros(9), torch.zeros(1), torch.zeros(0), {"a": torch.zeros(2, 0)}, {}):
        got = read(wire, sent)
        assert tree.leaves(tree.map(torch.count_nonzero, got)) == [0] * len(tree.leaves(got))
    assert bool(torch.isfinite(read(wire, torch.full((3,), 1e-200))).all())


def test_a_vector_in_a_half_type_comes_back_in_it():
    sent = normal(50).to(torch.bfloat16)
    for wire in (wires.topk(10), wires.sign(), wires.lloyd_max(bits=4), wires.eden(bits=4), wires.qsgd(7)):
        assert read(wire, sent).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: wires.lloyd_max(bits=0), r"bits must be >= 1 and <= 8 \(got 0\)"),
        (lambda: wires.lloyd_max(bits=9), r"bits must be >= 1 and <= 8 \(got 9\)"),
        (lambda: wires.eden(bits=9), r"bits must be >= 1 and <= 8"),
        (lambda: wires.lloyd_max(scale_bits=16), r"scale_bits must be 8 or 32 \(got 16\)"),
        (lambda: wires.qsgd(0), r"levels must be >= 1"),
        (lambda: wires.topk(), "one of k and fraction"),
        (lambda: wires.topk(3, fraction=0.1), "one of k and fraction"),
        (lambda: wires.topk(0), "k must be >= 1"),
        (lambda: wires.topk(fraction=1.5), "fraction must be"),
        (lambda: wires.topk(3, index="huffman"), "index must be"),
        (lambda: wires.random_k(), "one of k and fraction"),
        (lambda: wires.ternary(clip=0.0), "clip must be > 0"),
        (lambda: wires.topk(51).init(torch.zeros(50)), r"topk: k must be at most 50.*\(got 51\)"),
        (lambda: wires.random_k(51).init(torch.zeros(50)), r"random_k: k must be at most 50.*\(got 51\)"),
        (lambda: wires.topk(20, values=wires.random_k(21)).init(torch.zeros(50)), r"at most 20.*\(got 21\)"),
        (lambda: wires.topk(5, per="tensor").init({"a": torch.zeros(9), "b": torch.zeros(4)}), r"at most 4"),
        (lambda: wires.error_feedback(wires.topk(51)).init(torch.zeros(50)), r"at most 50"),
        (lambda: wires.sign().unpack({}, None, CTX), "give `like`"),
        (lambda: wires.by_name().init(torch.zeros(3)), "parts have names"),
    ],
)
def test_mistakes_are_named(make, says):
    with pytest.raises(FedSepError, match=says):
        make()


def test_tensors_that_are_sent_by_themselves_draw_by_themselves():
    sent = {"a": normal(200), "b": normal(200)}
    got = read(wires.ternary(per="tensor"), sent)
    assert torch.equal(sent["a"], sent["b"])
    assert not torch.equal(got["a"], got["b"])
