"""Packed bytes against closed forms, at three sizes."""

import math

import pytest
import torch

from fedsep import tree, wires
from fedsep.core import FedSepError
from fedsep.testing.draws import context, random_like

MODELS = {
    54: {"b": torch.zeros(7, 5), "a": torch.zeros(7), "c": torch.zeros(12)},
    1000: {"w": torch.zeros(30, 33), "b": torch.zeros(10)},
    24_234: {"w": torch.zeros(200, 121), "b": torch.zeros(34)},
}


def up(x):
    return math.ceil(x)


def log2(d):
    return up(math.log2(d))


# wire at d coordinates in L tensors of the given sizes; `sizes` only where a scale goes with every tensor
FORMS = {
    "float32": (lambda d: wires.dense(), lambda d, sizes: 4 * d),
    "bfloat16": (lambda d: wires.dense(dtype="bfloat16"), lambda d, sizes: 2 * d),
    "topk": (lambda d: wires.topk(10, values=wires.dense()), lambda d, sizes: 10 * 4 + 10 * 4),
    "topk bfloat16": (lambda d: wires.topk(10, values=wires.dense(dtype="bfloat16")), lambda d, sizes: 10 * (4 + 2)),
    "topk packed": (
        lambda d: wires.topk(10, values=wires.dense(), index="packed"),
        lambda d, sizes: up(10 * log2(d) / 8) + 40,
    ),
    "topk sign": (
        lambda d: wires.topk(10, values=wires.sign(), index="packed"),
        lambda d, sizes: up(10 * log2(d) / 8) + 2 + 4,
    ),
    "topk fraction": (
        lambda d: wires.topk(fraction=0.1, values=wires.dense()),
        lambda d, sizes: 8 * up(round(0.1 * d, 6)),
    ),
    "topk of each tensor": (
        lambda d: wires.topk(fraction=0.1, values=wires.dense(), per="tensor"),
        lambda d, sizes: sum(8 * up(round(0.1 * n, 6)) for n in sizes),
    ),
    "random_k": (lambda d: wires.random_k(10, values=wires.dense()), lambda d, sizes: 40),
    "sign": (lambda d: wires.sign(), lambda d, sizes: up(d / 8) + 4),
    "sign short": (lambda d: wires.sign(scale_bits=8), lambda d, sizes: up(d / 8) + 1),
    "sign of each tensor": (lambda d: wires.sign(per="tensor"), lambda d, sizes: sum(up(n / 8) + 4 for n in sizes)),
    "ternary": (lambda d: wires.ternary(), lambda d, sizes: up(d / 4) + 4),
    "qsgd 1": (lambda d: wires.qsgd(1), lambda d, sizes: 4 * up(d / 512) + up(d * 2 / 8)),
    "qsgd 3": (lambda d: wires.qsgd(3), lambda d, sizes: 4 * up(d / 512) + up(d * 3 / 8)),
    "qsgd 15 of 64": (lambda d: wires.qsgd(15, bucket=64), lambda d, sizes: 4 * up(d / 64) + up(d * 5 / 8)),
    **{
        f"lloyd_max {b}": (lambda d, b=b: wires.lloyd_max(bits=b), lambda d, sizes, b=b: up(d * b / 8) + 4)
        for b in range(1, 9)
    },
    "lloyd_max short": (lambda d: wires.lloyd_max(bits=3, scale_bits=8), lambda d, sizes: up(d * 3 / 8) + 1),
    "eden": (lambda d: wires.eden(bits=2), lambda d, sizes: up(d * 2 / 8) + 4),
    "less than a bit": (lambda d: wires.eden(fraction=0.3), lambda d, sizes: up(up(round(0.3 * d, 6)) / 8) + 4),
    "error feedback": (lambda d: wires.error_feedback(wires.sign()), lambda d, sizes: up(d / 8) + 4),
    "clip": (lambda d: wires.clip(1.0, wires.sign()), lambda d, sizes: up(d / 8) + 4),
    "by name": (lambda d: wires.by_name(rest=wires.sign()), lambda d, sizes: sum(up(n / 8) + 4 for n in sizes)),
}


@pytest.mark.parametrize("size", MODELS)
@pytest.mark.parametrize("name", FORMS)
def test_bytes_are_the_closed_form(name, size):
    make, form = FORMS[name]
    wire, sent = make(size), random_like(MODELS[size], 0)
    payload, _ = wire.pack(sent, wire.init(sent), context(0))
    assert tree.nbytes(payload) == form(size, [part.numel() for part in MODELS[size].values()])


@pytest.mark.parametrize("size", MODELS)
def test_positions_are_counted_apart_and_take_exactly_four_bytes_each(size):
    sent = random_like(MODELS[size], 0)
    payload, _ = wires.topk(10, values=wires.dense()).pack(sent, (), context(0))
    assert tree.named_bytes(payload) == {"index": 40, "values": 40}


def test_sparse_ternary_takes_the_bytes_of_its_formula():
    k, d, low = 100, 24_234, 7
    sent, wire = random_like(MODELS[d], 0), wires.topk(k, values=wires.sign(), index="golomb")
    expected = k * (1 + low + 1 / (1 - (1 - k / d) ** 2**low)) / 8 + 4
    assert tree.nbytes(wire.pack(sent, wire.init(sent), context(0))[0]) == pytest.approx(expected, abs=3)


def test_what_k_is_refused_at_is_the_size():
    with pytest.raises(FedSepError, match=r"at most 54"):
        wires.topk(55).init(MODELS[54])
    wires.topk(54).init(MODELS[54])
