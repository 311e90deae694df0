"""Every wire keeps every law of wires and what it promises; a wire that does not is caught."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from fedsep import tree, wires
from fedsep.testing import LawBroken, check_wire
from fedsep.testing.draws import context, random_like
from fedsep.wires import Contraction, Deferred, Exact, Lossy, Unbiased, advice, promise_of

LIKE = {"b.weight": torch.zeros(7, 5), "b.bias": torch.zeros(7), "a": {"w": torch.zeros(3, 2, 2)}}
SIZE = 54

WIRES = {
    "dense as it is": (wires.Dense(), Exact),
    "float32": (wires.dense(), Contraction),
    "float16": (wires.dense(dtype="float16"), Lossy),
    "bfloat16": (wires.dense(dtype="bfloat16"), Contraction),
    "topk": (wires.topk(10), Contraction),
    "topk of each tensor": (wires.topk(fraction=0.2, per="tensor"), Contraction),
    "topk packed": (wires.topk(10, index="packed"), Contraction),
    "topk golomb": (wires.topk(10, index="golomb"), Contraction),
    "sparse ternary": (wires.topk(10, index="golomb", values=wires.sign()), Contraction),
    "topk qsgd": (wires.topk(10, values=wires.qsgd(15)), Contraction),
    "random_k": (wires.random_k(10), Contraction),
    "random_k scaled": (wires.random_k(20, unbiased=True), Unbiased),
    "random_k ternary": (wires.random_k(fraction=0.5, unbiased=True, values=wires.ternary()), Unbiased),
    "random_k of random_k": (
        wires.random_k(27, unbiased=True, values=wires.random_k(13, unbiased=True)),
        Unbiased,
    ),
    "random_k shared": (wires.random_k(10, shared=3), Contraction),
    "random_k shared and scaled": (wires.random_k(10, unbiased=True, shared=3), Lossy),
    "less than a bit": (wires.random_k(fraction=0.5, values=wires.lloyd_max(bits=1)), Contraction),
    "sign": (wires.sign(), Contraction),
    "sign of each tensor": (wires.sign(per="tensor"), Contraction),
    "sign with a short scale": (wires.sign(scale_bits=8), Contraction),
    "ternary": (wires.ternary(), Unbiased),
    "ternary of each tensor": (wires.ternary(per="tensor"), Unbiased),
    "ternary clipped": (wires.ternary(clip=2.5), Lossy),
    "qsgd 1": (wires.qsgd(1), Unbiased),
    "qsgd 7 in buckets": (wires.qsgd(7, bucket=16), Unbiased),
    "lloyd_max 1": (wires.lloyd_max(bits=1), Contraction),
    "lloyd_max 3": (wires.lloyd_max(bits=3), Contraction),
    "lloyd_max 8": (wires.lloyd_max(bits=8), Contraction),
    "lloyd_max with a short scale": (wires.lloyd_max(bits=2, scale_bits=8), Contraction),
    "lloyd_max unbiased": (wires.lloyd_max(bits=2, scale="unbiased"), Lossy),
    "rotated": (wires.rotated(wires.qsgd(3)), Unbiased),
    "eden": (wires.eden(bits=2), Lossy),
    "eden, less than a bit": (wires.eden(fraction=0.5), Lossy),
    "count sketch": (wires.count_sketch(rows=3, cells=9), Lossy),
    "count sketch in short floats": (wires.count_sketch(rows=3, cells=9, values="bfloat16"), Lossy),
    "low rank in short floats": (wires.low_rank(2, values="float16"), Lossy),
    "clip": (wires.clip(0.1, wires.topk(10)), Lossy),
    "by name": (wires.by_name(a=wires.sign()), Contraction),
    "error feedback": (wires.error_feedback(wires.topk(10)), Deferred),
    "error feedback of each tensor": (wires.error_feedback(wires.sign(per="tensor")), Deferred),
    "error feedback of random_k": (wires.error_feedback(wires.random_k(10)), Deferred),
    "low rank": (wires.low_rank(), Contraction),
    "low rank of two": (wires.low_rank(2), Contraction),
    "staged": (wires.staged((wires.topk(fraction=0.5), wires.topk(fraction=0.2)), rounds=2), Contraction),
    "staged, unbiased": (wires.staged((wires.qsgd(7), wires.ternary())), Unbiased),
    "momentum correction": (wires.momentum_correction(wires.topk(10)), Lossy),
}


@pytest.mark.parametrize("name", WIRES)
def test_every_wire_keeps_the_laws_and_its_promise(name):
    wire, kind = WIRES[name]
    assert type(promise_of(wire, SIZE)) is kind
    check_wire(wire, random_like(LIKE, 0))


RANDOM = ["random_k", "less than a bit", "topk qsgd", *(n for n, (_, kind) in WIRES.items() if kind is Unbiased)]
DETERMINISTIC = [name for name, (_, kind) in WIRES.items() if kind is Contraction and name not in RANDOM]
DRAWS = 96


def matrix(numbers):
    """Four rows: what is sent as a vector by most wires, and in two factors by the low-rank one."""
    return {"a": torch.tensor(numbers[: len(numbers) // 4 * 4]).reshape(4, -1)}


@pytest.mark.parametrize("name", DETERMINISTIC)
@given(numbers=st.lists(st.floats(-1e4, 1e4).map(lambda x: 0.0 if abs(x) < 1e-3 else x), min_size=12, max_size=40))
@settings(max_examples=40)
def test_a_contraction_contracts_every_message(name, numbers):
    wire, sent = WIRES[name][0], matrix(numbers)
    promise = promise_of(wire, sent["a"].numel())
    read = wire.unpack(wire.pack(sent, wire.init(sent), context(1))[0], sent, context(1))
    size = float(tree.dot(sent, sent))
    lost = float(tree.norm(tree.sub(sent, read))) ** 2
    assert lost <= (1 - promise.delta) * size * (1 + 1e-9) + 1e-14 * size


@pytest.mark.parametrize("name", RANDOM)
@given(numbers=st.lists(st.integers(-9, 9).map(lambda x: x**3 / 8), min_size=28, max_size=40))
@settings(max_examples=4, derandomize=True, phases=[Phase.generate])
def test_a_random_wire_keeps_its_promise_on_every_message(name, numbers):
    """Over keys: the mean error is at most what is promised, and the mean is what was sent where that is promised."""
    wire, sent = WIRES[name][0], matrix(numbers)
    flat, promise = sent["a"].reshape(-1), promise_of(wire, sent["a"].numel())
    contexts = [context(1, seed=seed) for seed in range(DRAWS)]
    reads = torch.stack([wire.unpack(wire.pack(sent, (), ctx)[0], sent, ctx)["a"].reshape(-1) for ctx in contexts])
    errors, size = (reads - flat).square().sum(1), float(flat.square().sum())
    allowed = promise.omega if isinstance(promise, Unbiased) else 1 - promise.delta
    assert float(errors.mean() - 5 * errors.std() / DRAWS**0.5) <= allowed * size * (1 + 1e-6) + 1e-14
    if isinstance(promise, Unbiased):
        assert float((reads.mean(0) - flat).square().sum()) <= 9 * allowed * size / DRAWS + 1e-14


SINGLE_PRECISION = ["topk", "sign", "lloyd_max 3", "ternary", "qsgd 7 in buckets", "eden", "error feedback"]


@pytest.mark.parametrize("name", SINGLE_PRECISION)
def test_in_single_precision_too(name):
    torch.set_default_dtype(torch.float32)
    check_wire(WIRES[name][0], tree.map(lambda part: part.float(), random_like(LIKE, 0)))


@dataclass(frozen=True)
class Liar:
    """A wire that does not do what it promises."""

    wire: object
    promised: object

    def init(self, like):
        return self.wire.init(like)

    def pack(self, message, memory, ctx):
        return self.wire.pack(message, memory, ctx)

    def unpack(self, payload, like, ctx):
        return self.wire.unpack(payload, like, ctx)

    def promise(self, size):
        return self.promised


@pytest.mark.parametrize(
    ("wire", "promised", "law"),
    [
        (wires.sign(), Exact(), "bit for bit"),
        (wires.topk(10), Contraction(0.9), "delta"),
        (wires.random_k(10), Contraction(0.4), "delta"),
        (wires.sign(), Unbiased(1.0), "the mean of what is read"),
        (wires.random_k(10), Unbiased(1.0), "the mean of what is read"),
        (wires.ternary(clip=1.0), Unbiased(20.0), "the mean of what is read"),
        (wires.ternary(), Unbiased(0.1), "omega"),
        (wires.topk(10), Deferred(Contraction(0.1)), "the memory"),
    ],
    ids=str,
)
def test_a_wire_that_breaks_its_promise_is_caught(wire, promised, law):
    with pytest.raises(LawBroken, match=law):
        check_wire(Liar(wire, promised), random_like(LIKE, 0))


@dataclass(frozen=True)
class Forgetful(wires.ErrorFeedback):
    """Error feedback that remembers half of what was left out."""

    def pack(self, tree_, memory, ctx):
        payload, kept = super().pack(tree_, memory, ctx)
        return payload, kept._replace(error=tree.scale(kept.error, 0.5))


@dataclass(frozen=True)
class Unordered(wires.TopK):
    """Flattens in the order in which the names come."""

    def pack(self, tree_, memory, ctx):
        return super().pack(tree.ravel(tree_)[0], memory, ctx)


@pytest.mark.parametrize(
    ("wire", "law"), [(Forgetful(wires.topk(10)), "the memory"), (Unordered(k=10), "order of names")]
)
def test_forgetting_and_the_order_of_names_are_caught(wire, law):
    with pytest.raises(LawBroken, match=law):
        check_wire(wire, random_like(LIKE, 0))


def test_promises_in_closed_form():
    assert promise_of(wires.topk(10), 1000) == Contraction(0.01)
    assert promise_of(wires.topk(10, values=wires.topk(2)), 1000) == Contraction(pytest.approx(0.002))
    assert promise_of(wires.topk(10, values=wires.qsgd(15)), 1000) == Contraction(pytest.approx(0.01 * (1 - 10 / 225)))
    assert promise_of(wires.topk(100, values=wires.ternary()), 1000) == Lossy()  # omega = 4.5 > 1
    assert promise_of(wires.random_k(250, unbiased=True), 1000) == Unbiased(3.0)
    assert promise_of(wires.random_k(100, unbiased=True, values=wires.ternary()), 1000) == Unbiased(5.5 * 10 - 1)
    assert promise_of(wires.random_k(100, unbiased=True, values=wires.sign()), 1000) == Lossy()
    assert promise_of(wires.ternary(), 10_000) == Unbiased(49.5)
    assert promise_of(wires.qsgd(3, bucket=64), 1000) == Unbiased(8 / 3)
    assert promise_of(wires.rotated(wires.topk(10)), 1000) == Contraction(0.01)
    assert promise_of(wires.error_feedback(wires.topk(10)), 1000) == Deferred(Contraction(0.01))
    assert promise_of(object(), 1000) == Lossy()
    assert promise_of(wires.by_name(a=wires.error_feedback(wires.topk(10))), 1000) == Deferred(Contraction(0.01))
    assert promise_of(wires.by_name(a=wires.ternary(), b=wires.sign()), 1000) == Lossy()


def test_the_worst_message_of_ternary_meets_its_bound():
    sent = torch.cat([torch.tensor([11.0]), torch.ones(99)]) / 8  # 1 + sqrt(n), 1, ..., 1: exact in float32
    wire, errors = wires.ternary(), []
    for seed in range(1000):
        ctx = context(0, seed=seed)
        errors.append(float((wire.unpack(wire.pack(sent, (), ctx)[0], sent, ctx) - sent).square().sum()))
    assert sum(errors) / 1000 == pytest.approx(promise_of(wire, 100).omega * float(sent.square().sum()), rel=0.02)


def test_advice():
    assert "error_feedback" in advice(wires.sign(), 1000)[0]
    assert "1000 coordinates" in advice(wires.topk(10), 1000)[0]
    assert "without bound" in advice(wires.error_feedback(wires.random_k(10, unbiased=True)), 1000)[0]
    quiet = [
        wires.dense(dtype="bfloat16"),
        wires.error_feedback(wires.sign()),
        wires.eden(),
        wires.ternary(),
        wires.topk(600),
        wires.error_feedback(wires.qsgd(15, bucket=64)),
    ]
    assert [advice(wire, 1000) for wire in quiet] == [[]] * len(quiet)
