"""What an experiment finds: checks of predicted against measured values, and pictures of both."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fedsep.ranges import Count, NonNegativeInt, Range

Relation = Literal["equals", "at most", "reported"]


@dataclass(frozen=True)
class Check:
    """One prediction beside its measurement.

    Attributes:
        what: The quantity.
        relation: What the measurement is to the prediction; ``reported`` makes no claim.
        predicted: The formula's value; NaN where nothing is predicted.
        measured: What the library's code gave.
        error: Standard error of the measurement, 0 where nothing is drawn.
        tolerance: Relative error that an equality is allowed besides four standard errors: rounding, or the next
            order of an expansion whose leading term is the prediction.
    """

    what: str
    relation: Relation
    predicted: float
    measured: float
    error: float = 0.0
    tolerance: float = 1e-9

    @property
    def holds(self) -> bool:
        """Whether the measurement agrees; a number that is not finite agrees with nothing."""
        if self.relation == "reported":
            return True
        if not (math.isfinite(self.predicted) and math.isfinite(self.measured)):
            return False
        if self.relation == "at most":
            return self.measured <= self.predicted * (1 + 1e-12)
        return abs(self.measured - self.predicted) <= 4 * self.error + self.tolerance * abs(self.predicted)

    def record(self) -> dict[str, Any]:
        """Ready for JSON, which has no NaN."""
        return {
            "what": self.what,
            "relation": self.relation,
            "predicted": _number(self.predicted),
            "measured": _number(self.measured),
            "error": _number(self.error),
            "tolerance": self.tolerance,
            "holds": self.holds,
        }


@dataclass(frozen=True)
class Line:
    """One curve of a picture: measured ones are drawn as marks, predicted ones as lines."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    measured: bool = True

    def record(self) -> dict[str, Any]:
        """Ready for JSON."""
        points = [(float(x), float(y)) for x, y in zip(self.x, self.y, strict=True) if math.isfinite(y)]
        return {"label": self.label, "measured": self.measured, "points": points}


@dataclass(frozen=True)
class Picture:
    """Predicted against measured, on axes that are logarithmic where it says so."""

    title: str
    x_label: str
    lines: Sequence[Line]
    log_x: bool = False
    log_y: bool = True

    def record(self) -> dict[str, Any]:
        """Ready for JSON."""
        told = {"title": self.title, "x_label": self.x_label, "log_x": self.log_x, "log_y": self.log_y}
        return {**told, "lines": [line.record() for line in self.lines]}


@dataclass(frozen=True)
class Finding:
    """All that one experiment found with one seed."""

    checks: Sequence[Check]
    pictures: Sequence[Picture] = ()

    @property
    def holds(self) -> bool:
        """Whether every check does."""
        return all(check.holds for check in self.checks)

    def record(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "checks": [check.record() for check in self.checks],
            "pictures": [picture.record() for picture in self.pictures],
        }


@dataclass(frozen=True)
class Scale:
    """How much is measured: equalities are tested at any scale, with a standard error to match.

    Attributes:
        seeds: Each gives a bed and draws of its own.
        draws: Independent draws of a direct measurement.
        replicates: Independent copies of a federated run.
        rounds: Rounds of a federated run.
        horizons: Values of T at which Corollary 3.8 is tried, increasing.
        conditions: Condition numbers of the second bed, increasing.
        every_value: Whether arguments that are varied take each of their values, or one.
    """

    seeds: tuple[NonNegativeInt, ...]
    draws: Annotated[int, Range(ge=64)]
    replicates: Annotated[int, Range(ge=2)]
    rounds: Count
    horizons: tuple[Count, ...]
    conditions: tuple[Annotated[int, Range(ge=2)], ...]
    every_value: bool

    def errors(self) -> Iterator[tuple[str, tuple[int, ...], str]]:
        """What is wrong beside the ranges of single numbers: the attribute, its value, and what it must be."""
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            yield "seeds", self.seeds, "must be different seeds, at least one"
        for name, values in (("horizons", self.horizons), ("conditions", self.conditions)):
            if len(values) < 2 or any(b <= a for a, b in itertools.pairwise(values)):
                yield name, values, "must be at least two numbers, increasing: an exponent is fitted to them"


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """The exponent a of y ~ x^a: least squares on a doubly logarithmic scale."""
    u, v = [math.log(value) for value in x], [math.log(value) for value in y]
    a, b = sum(u) / len(u), sum(v) / len(v)
    return sum((p - a) * (q - b) for p, q in zip(u, v, strict=True)) / sum((p - a) ** 2 for p in u)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
