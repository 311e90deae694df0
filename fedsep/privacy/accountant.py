"""Rényi accountants: what some rounds of the Gaussian mechanism cost, by how the cohorts are drawn.

Costs at the orders alpha add up over rounds (Mironov 2017, arXiv:1702.07476), and are turned into (epsilon, delta)
once. The analysis of Poisson cohorts and the conversion are those of opacus.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

Draw = Literal["poisson", "without_replacement", "none"]

INTEGERS = (*range(2, 64), 72, 80, 96, 128, 192, 256)
"""Orders at which the bound for cohorts of fixed size is known."""
ORDERS = (*(1 + n / 10 for n in range(1, 100)), *INTEGERS[9:], 512, 1024)
"""Orders at which the others are asked; the best one counts."""


@dataclass(frozen=True)
class Rounds:
    """Rounds of one kind.

    Attributes:
        draw: How a cohort is drawn, in secret; ``none``: every client is in it, or who is in it is known.
        rate: The share of clients in a round.
        noise: Standard deviation of the noise on the sum, over the largest change of a client.
        count: How many rounds; where the cohorts are known, the most that one client was invited to.
    """

    draw: Draw
    rate: float
    noise: float
    count: int


def epsilon(rounds: Rounds, delta: float) -> float:
    """The epsilon of some rounds at ``delta``; infinite where no order gives one.

    Poisson cohorts: the sampled Gaussian mechanism (Mironov, Talwar, Zhang 2019, arXiv:1908.10530), for fleets that
    differ in the presence of one client. Without replacement: Theorem 9 of Wang, Balle, Kasiviswanathan
    (arXiv:1808.00087), for fleets in which one client is another, whose sums differ by 2 clip. None: the Gaussian
    mechanism, for fleets in which one client's change is 0 or not.

    Raises:
        ModuleNotFoundError: opacus is not installed; see ``missing``.
    """
    if not rounds.count:
        return 0.0
    orders = INTEGERS if rounds.draw == "without_replacement" else ORDERS
    costs = [rounds.count * cost for cost in _costs(rounds.draw, rounds.rate, rounds.noise)]
    return max(_converted(orders, costs, delta), 0.0)


@lru_cache(maxsize=16)
def _costs(draw: Draw, rate: float, noise: float) -> tuple[float, ...]:
    """Of one round, at each order."""
    if draw == "without_replacement":
        return tuple(fixed_size_cost(rate, noise / 2, order) for order in INTEGERS)
    q = rate if draw == "poisson" else 1.0
    return tuple(map(float, _opacus().compute_rdp(q=q, noise_multiplier=noise, steps=1, orders=ORDERS)))


def fixed_size_cost(rate: float, noise: float, order: int) -> float:
    """A round's cost at a whole order >= 2, of cohorts of fixed size drawn without replacement.

    log(1 + C(a, 2) q^2 min(4 (e^c(2) - 1), 2 e^c(2)) + sum_{j=3..a} 2 C(a, j) q^j e^((j-1) c(j))) / (a - 1),
    c(j) = j / (2 noise^2): Theorem 9 of arXiv:1808.00087 for the Gaussian mechanism, which has no pure epsilon.

    Args:
        rate: q, the share of clients in a cohort.
        noise: Standard deviation over how far two sums can lie apart when one client is replaced.
        order: a.
    """

    def term(j: int) -> float:
        cost = j / (2 * noise**2)
        binomial = math.lgamma(order + 1) - math.lgamma(j + 1) - math.lgamma(order - j + 1)
        most = math.log(2) + (j - 1) * cost
        if j == 2:
            most = min(most, math.log(4) + cost + math.log(-math.expm1(-cost)))
        return binomial + j * math.log(rate) + most

    terms = [0.0, *(term(j) for j in range(2, order + 1))]
    largest = max(terms)
    sampled = (largest + math.log(math.fsum(math.exp(each - largest) for each in terms))) / (order - 1)
    return min(sampled, order / (2 * noise**2))  # a cohort tells no more than one that everybody is in


def missing() -> list[str]:
    """What a private run lacks on this machine, as sentences."""
    if importlib.util.find_spec("opacus") is not None:
        return []
    return ["privacy is accounted for by opacus, which is not installed here: pip install 'fedsep[dp]'"]


def _converted(orders: Sequence[float], costs: Sequence[float], delta: float) -> float:
    """The least epsilon over the orders; opacus warns of a best order at an end, where the bound is only loose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        best, _ = _opacus().get_privacy_spent(orders=orders, rdp=costs, delta=delta)
    return float(best)


def _opacus() -> Any:
    """Its analysis, without the handler that it gives to the root of all logs, ours among them."""
    root = logging.getLogger()
    before = list(root.handlers)
    try:
        return importlib.import_module("opacus.accountants.analysis.rdp")
    finally:
        root.handlers[:] = before
