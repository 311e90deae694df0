"""Learning-rate schedules over rounds: a factor of the learner's rate for every round."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fedsep.core import FedSepError
from fedsep.ranges import Count, NonNegative, NonNegativeInt, Positive, checked

Schedule = Callable[[int], float]
"""Round, from 0, to the factor by which the learning rate is multiplied in it."""


@dataclass(frozen=True)
class Cosine:
    """See ``cosine``."""

    rounds: int
    floor: float
    warmup: int

    def __call__(self, round: int) -> float:
        """The factor in ``round``."""
        if round < self.warmup:
            return (round + 1) / self.warmup
        share = min(1.0, (round - self.warmup) / max(1, self.rounds - self.warmup))
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * share))


@checked
def cosine(*, rounds: Count, floor: NonNegative = 0.0, warmup: NonNegativeInt = 0) -> Cosine:
    """A linear warm-up, then half a cosine from 1 to ``floor`` at round ``rounds``.

    Args:
        rounds: Round at which the floor is reached.
        floor: The last factor.
        warmup: Rounds of linear growth before.
    """
    return Cosine(rounds, floor, warmup)


@dataclass(frozen=True)
class Milestones:
    """See ``milestones``."""

    at: tuple[int, ...]
    factor: float

    def __call__(self, round: int) -> float:
        """The factor in ``round``."""
        return self.factor ** sum(round >= milestone for milestone in self.at)


@checked
def milestones(*, at: Sequence[int], factor: Positive = 0.1) -> Milestones:
    """Multiplies the rate by ``factor`` at each of the rounds ``at``.

    Args:
        at: Rounds, increasing.
        factor: What the rate is multiplied by at each.

    Raises:
        FedSepError: ``at`` is not increasing or holds a negative round.
    """
    if list(at) != sorted(set(at)) or any(round < 0 for round in at):
        raise FedSepError(f"milestones: at must be increasing rounds from 0 (got {list(at)})")
    return Milestones(tuple(at), factor)


@dataclass(frozen=True)
class Exponential:
    """See ``exponential``."""

    rate: float

    def __call__(self, round: int) -> float:
        """The factor in ``round``."""
        return self.rate**round


@checked
def exponential(*, rate: Positive) -> Exponential:
    """The factor rate^round.

    Args:
        rate: Factor from one round to the next.
    """
    return Exponential(rate)
