"""The ideas for fewer bytes, as settings of ``benchmarks.ideas``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Idea:
    """One setting.

    Attributes:
        name: What is tried.
        split: ``iid``, or ``k2`` with 2 classes per client.
        p: Coordinates.
        period: Rounds between two sketches.
        boost: Of the default server rate min(d/p, 6 sqrt(d/p)).
        end: The server's rate falls to this share of itself, along half a cosine.
        lr: Of the local steps.
        lr_end: The same for lr.
        momentum: Of the whole model's displacement, which both ends know; the server's rate is lowered by 1 - momentum.
        weights: Factors of the coordinates: none, from past displacements one a ``layer`` or one a ``coordinate``, or
            from the ``size`` of the layer (small ones move more).
        power: Of the displacements' energy in these factors.
        nonzeros: Ternary: so many coordinates have a sign, the others are 0, both ways; 0: all have one.
        nonzeros_down: Ternary with another number on the downlink; 0: the same.
        bits_up: Of a coordinate up, 1 or 2.
        bits_down: Of a coordinate down, 1 or 2.
        ramp: p grows linearly from (1 - ramp) p to (1 + ramp) p.
        scale_bits: Of a message's scale.
        parts: A client sends one of so many coordinates in a round, in turn, another than its neighbours.
        forgets: What it did not send is lost, and the server averages over those who sent; else it is fed back.
    """

    name: str
    split: str
    p: int
    period: int
    boost: float = 1.0
    end: float = 1.0
    lr: float = 0.1
    lr_end: float = 1.0
    momentum: float = 0.0
    weights: str = ""
    power: float = 1.0
    nonzeros: int = 0
    nonzeros_down: int = 0
    bits_up: int = 1
    bits_down: int = 1
    ramp: float = 0.0
    scale_bits: int = 8
    parts: int = 1
    forgets: bool = True

    @property
    def widest(self) -> int:
        """The most coordinates of any round."""
        return math.ceil(self.p * (1 + abs(self.ramp)))

    def width(self, number: int, rounds: int) -> int:
        """Coordinates of a round."""
        return round(self.p * (1 + self.ramp * (2 * number / rounds - 1)))

    def rate(self, d: int, number: int, rounds: int) -> float:
        """eta_g of a round."""
        p = self.width(number, rounds)
        usual = min(d / p, 6 * math.sqrt(d / p))
        return self.boost * (1 - self.momentum) * usual * _cosine(self.end, number / rounds)

    def local_rate(self, number: int, rounds: int) -> float:
        """lr of a round."""
        return self.lr * _cosine(self.lr_end, number / rounds)

    @property
    def bytes(self) -> float:
        """Up and down in a round; of ternary messages by the entropy of their positions."""
        return self._one(self.nonzeros, self.bits_up, self.parts) + self._one(
            self.nonzeros_down or self.nonzeros, self.bits_down
        )

    def _one(self, nonzeros: int, bits: int, parts: int = 1) -> float:
        if not nonzeros:
            return math.ceil(self.p * bits / parts / 8) + self.scale_bits / 8
        share = nonzeros / self.p
        entropy = -(share * math.log2(share) + (1 - share) * math.log2(1 - share)) if share < 1 else 0.0
        return math.ceil((self.p * entropy + nonzeros) / 8) + self.scale_bits / 8


def _cosine(end: float, at: float) -> float:
    return end + (1 - end) * (1 + math.cos(math.pi * at)) / 2


def _around(base: Idea, changes: Mapping[str, Mapping[str, object]]) -> list[Idea]:
    return [replace(base, name=name, **change) for name, change in changes.items()]  # type: ignore[arg-type]


ONE_AT_A_TIME: Mapping[str, Mapping[str, object]] = {
    "as it is": {},
    "period 1": {"period": 1},
    "period 3": {"period": 3},
    "rate x .7": {"boost": 0.7},
    "rate x 1.4": {"boost": 1.4},
    "rate falls to .3": {"end": 0.3},
    "rate falls to .1": {"end": 0.1},
    "rate x 1.4, falls to .1": {"boost": 1.4, "end": 0.1},
    "lr .2": {"lr": 0.2},
    "lr .2 falls to .2": {"lr": 0.2, "lr_end": 0.2},
    "lr .3 falls to .1": {"lr": 0.3, "lr_end": 0.1},
    "momentum .5": {"momentum": 0.5},
    "momentum .5, rate x 1.5": {"momentum": 0.5, "boost": 1.5},
    "momentum .8": {"momentum": 0.8},
    "momentum .8, rate x 2": {"momentum": 0.8, "boost": 2.0},
    "momentum .8, rate x 2, period 1": {"momentum": 0.8, "boost": 2.0, "period": 1},
    "momentum .9, rate x 2": {"momentum": 0.9, "boost": 2.0},
    "momentum .9, rate x 3, falls to .1": {"momentum": 0.9, "boost": 3.0, "end": 0.1},
    "weights by layer": {"weights": "layer"},
    "weights by layer, root": {"weights": "layer", "power": 0.5},
    "weights by coordinate, root": {"weights": "coordinate", "power": 0.5},
    "p grows from .4 to 1.6": {"ramp": 0.6},
    "p falls from 1.6 to .4": {"ramp": -0.6},
}
"""What is changed around the library's default at the same bytes."""

B40 = Idea("", "iid", 152, 2)
B20 = Idea("", "iid", 72, 2)
K2 = Idea("", "k2", 520, 3)

FORTY: Mapping[str, Mapping[str, object]] = {
    "32-bit scale": {"p": 128, "scale_bits": 32},
    "2 bits down": {"p": 101, "bits_down": 2},
    "ternary, p 300, 25 signs": {"p": 300, "nonzeros": 25},
    "ternary, p 600, 21 signs": {"p": 600, "nonzeros": 21, "period": 3},
    "ternary, p 2000, 16 signs": {"p": 2000, "nonzeros": 16, "period": 5},
    "ternary, p 24234, 11 signs": {"p": 24234, "nonzeros": 11, "period": 200, "boost": 0.5},
    "ternary, p 600, 10 up, 33 down": {"p": 600, "nonzeros": 10, "nonzeros_down": 33, "period": 3},
    "1 bit up, 2 down, p 101, rate falls": {"p": 101, "bits_down": 2, "end": 0.1},
}

PARTS_40: Mapping[str, Mapping[str, object]] = {
    "half up": {"p": 200, "parts": 2},
    "half up, fed back": {"p": 200, "parts": 2, "forgets": False},
    "half up, period 3": {"p": 200, "parts": 2, "period": 3},
    "half up, rate x 1.2": {"p": 200, "parts": 2, "boost": 1.2},
    "half up, rate x .8": {"p": 200, "parts": 2, "boost": 0.8},
    "fifth up": {"p": 256, "parts": 5},
    "fifth up, fed back": {"p": 256, "parts": 5, "forgets": False},
    "fifth up, period 3": {"p": 256, "parts": 5, "period": 3},
    "fifth up, rate x 1.2": {"p": 256, "parts": 5, "boost": 1.2},
    "tenth up": {"p": 272, "parts": 10},
    "tenth up, rate x .7": {"p": 272, "parts": 10, "boost": 0.7},
    "rate grows to 1.5": {"end": 1.5},
    "rate grows to 2": {"end": 2.0},
    "lr .2, rate / 2": {"lr": 0.2, "boost": 0.5},
    "lr .05, rate x 2": {"lr": 0.05, "boost": 2.0},
    "period 3, rate x 1.2": {"period": 3, "boost": 1.2},
    "small layers move more": {"weights": "size", "power": 0.5},
    "small layers move less": {"weights": "size", "power": -0.5},
}
PARTS_20: Mapping[str, Mapping[str, object]] = {
    "half up": {"p": 96, "parts": 2},
    "half up, rate x 1.2": {"p": 96, "parts": 2, "boost": 1.2},
    "half up, fed back": {"p": 96, "parts": 2, "forgets": False},
    "fifth up": {"p": 120, "parts": 5},
    "fifth up, rate x .8": {"p": 120, "parts": 5, "boost": 0.8},
    "tenth up": {"p": 128, "parts": 10},
    "lr .2, rate / 2": {"lr": 0.2, "boost": 0.5},
    "rate grows to 1.5": {"end": 1.5},
    "half up, weights by layer, root": {"p": 96, "parts": 2, "weights": "layer", "power": 0.5},
}
PARTS_K2: Mapping[str, Mapping[str, object]] = {
    "half up": {"p": 688, "parts": 2},
    "half up, fed back": {"p": 688, "parts": 2, "forgets": False},
    "half up, rate x 1.2": {"p": 688, "parts": 2, "boost": 1.2},
    "fifth up": {"p": 872, "parts": 5},
    "rate x 1.2": {"boost": 1.2},
    "lr .2, rate / 2": {"lr": 0.2, "boost": 0.5},
    "lr .05, rate x 2": {"lr": 0.05, "boost": 2.0},
    "half up, period 5": {"p": 688, "parts": 2, "period": 5},
    "72 bytes": {"p": 280, "period": 3},
    "72 bytes, half up": {"p": 368, "parts": 2, "period": 3},
    "72 bytes, period 2": {"p": 280, "period": 2},
    "72 bytes, rate x .7": {"p": 280, "period": 3, "boost": 0.7},
}

LEADING_40 = [
    "as it is", "period 3", "p falls from 1.6 to .4", "weights by layer, root", "weights by coordinate, root",
    "lr .05, rate x 2",
]  # fmt: skip
LEADING_20 = ["as it is", "half up", "weights by layer, root"]
LEADING_K2 = ["as it is", "rate x 1.2", "rate x 1.4", "momentum .5", "lr .05, rate x 2"]
"""What had been ahead with one seed or two, or level, and is played with another."""


def _some(changes: Mapping[str, Mapping[str, object]], names: Sequence[str]) -> Mapping[str, Mapping[str, object]]:
    return {name: changes[name] for name in names}


ROUNDS: Mapping[str, tuple[Sequence[int], Sequence[Idea]]] = {
    "smoke": ((100,), [*_around(replace(B40, p=20), ONE_AT_A_TIME), *_around(B40, FORTY)]),
    "first": (
        (100,),
        [*_around(B40, ONE_AT_A_TIME), *_around(B40, FORTY), *_around(B20, ONE_AT_A_TIME), *_around(K2, ONE_AT_A_TIME)],
    ),
    "second": (
        (101,),
        [
            *_around(B40, {"as it is": {}, "period 3": {"period": 3}, "rate x 1.4": {"boost": 1.4}} | dict(PARTS_40)),
            *_around(B20, {"as it is": {}} | dict(PARTS_20)),
            *_around(K2, {"as it is": {}} | dict(PARTS_K2)),
        ],
    ),
    "third": (
        (102,),
        [
            *_around(B40, _some({**ONE_AT_A_TIME, **FORTY, **PARTS_40}, LEADING_40)),
            *_around(B20, _some({**ONE_AT_A_TIME, **PARTS_20}, LEADING_20)),
            *_around(K2, _some({**ONE_AT_A_TIME, **PARTS_K2}, LEADING_K2)),
        ],
    ),
}
"""Seeds and ideas of every round of trials."""
