"""Law: measured bytes are what one counts by hand, at three sizes of a network with one hidden layer of h units.

Its tensors have 4 h, h, 3 h and 3 numbers of four bytes; whoever has u of the h units has 8 u + 3 of them. Nothing
here is read from a docstring.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import pytest
from catalogue import Tiny, shards
from laws.test_bytes import at_size
from weak import HEAD, narrow_net, public

from fedsep import algorithms, models
from fedsep.models.tracing.declared import table
from fedsep.testing import play
from fedsep.testing.payloads import single_precision_bytes
from fedsep.testing.play import everybody

SIZES, ROUNDS, CLASSES = (8, 20, 64), 4, 3
BITS = 1  # a byte holds a bit for each of three classes

Count = Callable[[int, float, int], tuple[float, float]]
"""Bytes up and down of a client: from h, its capability and the round, from 0."""


def whole(h: int) -> int:
    return 8 * h + 3


def part(h: int, p: float) -> int:
    return whole(math.ceil(p * h))


def tensors(h: int) -> tuple[int, ...]:
    return 4 * h, h, 3 * h, 3


def masks(h: int) -> int:
    """A bit for each weight of both layers."""
    return math.ceil(4 * h / 8) + math.ceil(3 * h / 8)


def half_kept(h: int) -> int:
    """Bytes of half of both layers' weights, and all biases."""
    return 4 * (2 * h + 3 * h // 2 + h + 3)


def plain(h: int, p: float, turn: int) -> tuple[float, float]:
    return 4 * whole(h), 4 * whole(h)


def sliced(h: int, p: float, turn: int) -> tuple[float, float]:
    return 4 * part(h, p) + BITS, 4 * part(h, p)


def weighed(h: int, p: float, turn: int) -> tuple[float, float]:
    return 4 * part(h, p) + BITS + 4 * math.ceil(p * h), 4 * part(h, p)


def excluded(h: int, p: float, turn: int) -> tuple[float, float]:
    return sliced(h, p, turn) if p >= 0.4 else (0, 0)


def kept_random(h: int, p: float, turn: int) -> tuple[float, float]:
    up, down = sliced(h, p, turn)
    return up + 8 * (turn == 0), down  # its key, once


def mixed(h: int, p: float, turn: int) -> tuple[float, float]:
    """Of three narrow networks two at 0.7; at 0.3 the first nine tenths of one."""
    narrow = math.ceil(h / 3)
    numbers = 2 * whole(narrow) if p > 0.5 else part(narrow, 0.3 * 3)
    return 4 * numbers + BITS, 4 * numbers


def ranked(h: int, p: float, turn: int) -> tuple[float, float]:
    """Every second round the client has all of the model, and sends two bytes a unit and the round."""
    fresh = turn % 2 == 0
    return 4 * part(h, p) + BITS + (2 * h + 4) * fresh, 4 * (whole(h) if fresh else part(h, p))


def scored(h: int, p: float, turn: int) -> tuple[float, float]:
    """Every second round the client scores all units; which it has it is told in two bytes each."""
    fresh, units = turn % 2 == 0, math.ceil(p * h)
    return 4 * part(h, p) + BITS + (4 * h + 4) * fresh, 4 * (whole(h) if fresh else part(h, p)) + 2 * units


def zerofl(h: int, p: float, turn: int) -> tuple[float, float]:
    sent = round(0.6 * 4 * h) + round(0.6 * 3 * h) + h + 3
    return 4 * sent + masks(h) + BITS, 4 * whole(h)


def feddst(h: int, p: float, turn: int) -> tuple[float, float]:
    """Masks move in rounds 0 and 2; they are new to a client at first, and after that."""
    return half_kept(h) + masks(h) * (turn in (0, 2)) + BITS, half_kept(h) + masks(h) * (turn in (0, 1, 3))


def flash(h: int, p: float, turn: int) -> tuple[float, float]:
    """First the clients tell a count for each layer; then masks move in every round."""
    return (2 * 4, 0) if turn == 0 else (half_kept(h) + masks(h) + BITS, half_kept(h) + masks(h))


def spdst(h: int, p: float, turn: int) -> tuple[float, float]:
    return half_kept(h) + BITS, half_kept(h) + masks(h) * (turn == 0)


def feddf(h: int, p: float, turn: int) -> tuple[float, float]:
    own = whole(h if p == 1 else h // 2)
    return 4 * own, 4 * own


def fedet(h: int, p: float, turn: int) -> tuple[float, float]:
    own = whole(h) if p == 1 else 5 * 2 + 3 * h + (h + 1) * 3  # by two units and h to three classes
    return 4 * own, 4 * own


def dsfl(h: int, p: float, turn: int) -> tuple[float, float]:
    labels = 4 * 7 * CLASSES
    return labels, (labels + 4) * (turn > 0)


def signs(h: int, p: float, turn: int) -> tuple[float, float]:
    return sum(math.ceil(n / 8) + 4 for n in tensors(h)), 4 * whole(h)


def trits(h: int, p: float, turn: int) -> tuple[float, float]:
    return sum(math.ceil(n / 4) + 4 for n in tensors(h)), 4 * whole(h)


def levels(h: int, p: float, turn: int) -> tuple[float, float]:
    return math.ceil(3 * whole(h) / 8) + 4 * math.ceil(whole(h) / 16), 4 * whole(h)


def rotated(h: int, p: float, turn: int) -> tuple[float, float]:
    return math.ceil(2 * math.ceil(whole(h) / 2) / 8) + 4, 4 * whole(h)


def factors(h: int, p: float, turn: int) -> tuple[float, float]:
    """Of rank 2: a row and a column for each rank of both matrices, and the vectors."""
    sent = 4 * (2 * (h + 4) + 2 * (3 + h) + h + 3)
    return sent, sent * (turn > 0)


def net(h: int) -> Any:
    return models.mlp((4,), CLASSES, hidden=(2, h), seed=3)


WEAK, DRAWN = {"capabilities": (0.7, 0.3)}, {"taken": lambda h: {"units": units(h)}}
ZOO = {"capabilities": (1.0, 0.5)}
SPARSE = {"density": 0.5, "outputs": HEAD}


def units(h: int) -> Any:
    declared = {"0.weight": ("hidden", None), "0.bias": ("hidden",), "1.weight": (None, "hidden")}
    return table(Tiny(h).init(), declared, CLASSES)


def small(make: Callable[[int], Any]) -> dict[str, Any]:
    return {**ZOO, "taken": lambda h: {"public": public(), "zoo": {0.5: make(h)}}}


COUNTED: dict[str, tuple[Count, dict[str, Any], dict[str, Any]]] = {
    "fedavg": (plain, {}, {}),
    "fedprox": (plain, {}, {}),
    "heterofl": (sliced, {}, WEAK | DRAWN),
    "heterofl by importance": (weighed, {"reduce": "importance"}, WEAK | DRAWN),
    "fedrolex": (sliced, {}, WEAK | DRAWN),
    "federated_dropout": (sliced, {}, WEAK | DRAWN),
    "fjord": (sliced, {"widths": (0.3, 0.5)}, WEAK | DRAWN),
    "shared_random": (sliced, {}, WEAK | DRAWN),
    "kept_random": (kept_random, {}, WEAK | DRAWN),
    "fedsep_importance": (weighed, {}, WEAK | DRAWN),
    "exclude": (excluded, {"least": 0.4}, WEAK | DRAWN),
    "homogeneous": (lambda h, p, turn: sliced(h, 0.5, turn), {"width": 0.5}, WEAK | DRAWN),
    "splitmix": (mixed, {"blocks": 3}, WEAK | DRAWN),
    "fedsep_mask": (ranked, {"scores": "taylor"}, WEAK | DRAWN),
    "fedsep_shared": (scored, {}, WEAK | DRAWN),
    "zerofl": (zerofl, {"density": 0.4, "extra": 0.2, "outputs": HEAD}, {}),
    "feddst": (feddst, {**SPARSE, "readjust": 0.4, "every": 2, "distribution": "uniform"}, {}),
    "flash": (flash, {**SPARSE, "first_epochs": 1}, {}),
    "flash by spdst": (spdst, {**SPARSE, "first": "uniform", "variant": "spdst"}, {}),
    "feddf": (feddf, {"server_steps": 1}, small(lambda h: narrow_net(h // 2))),
    "fedet": (fedet, {"server_steps": 1}, small(net)),
    "dsfl": (dsfl, {"per_round": 7, "distil_steps": 1}, small(lambda h: narrow_net(h // 2))),
    "signsgd_ef": (signs, {}, {}),
    "terngrad": (trits, {}, {}),
    "qsgd": (levels, {"levels": 3, "bucket": 16}, {}),
    "eden": (rotated, {"bits": 2, "fraction": 0.5}, {}),
    "powersgd": (factors, {"rank": 2}, {}),
}  # fmt: skip


def of(
    name: str, h: int, taken: Callable[[int], dict[str, Any]] = lambda h: {}, capabilities: tuple[float, ...] = (1.0,)
) -> Any:
    """The method, and some rounds of it."""
    make = functools.partial(getattr(algorithms, name.split(" ")[0]), Tiny(h), steps=1, batch_size=4)
    method = make(**COUNTED[name][1], **taken(h))
    params = (method.task if hasattr(method, "task") and method.task else Tiny(h)).init()
    return play(method, params, shards(Tiny(h)), everybody(2, ROUNDS), capabilities=capabilities)


@pytest.mark.parametrize("h", SIZES)
@pytest.mark.parametrize("name", COUNTED)
def test_measured_bytes_are_those_counted_by_hand(name: str, h: int):
    count, _, how = COUNTED[name]
    for number, seats in enumerate(of(name, h, **how).seats):
        for seat in seats.values():
            measured = single_precision_bytes(seat.reply), single_precision_bytes(seat.sent)
            assert measured == count(h, seat.ctx.capability, number)


def test_no_method_is_left_out():
    """Here, or among those that depend on the run, which ``test_bytes`` measures at three sizes."""
    others = {row.factory.__name__ for row in at_size(Tiny(20))}
    assert {name.split(" ")[0] for name in COUNTED} | others == set(algorithms.__all__)
