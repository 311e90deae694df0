"""The accountant, against opacus' own, closed forms, an exact bound and published software's figures."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from fedsep.privacy.accountant import Rounds, epsilon, fixed_size_cost

pytest.importorskip("opacus", reason="the accountant is that of opacus: pip install 'fedsep[dp]'")

DELTA = 1e-5


@pytest.mark.parametrize(
    ("rate", "noise", "count", "expected"),
    [
        # Google's dp-accounting 0.6.0, its RDP accountant at the same orders.
        (0.1, 1.0, 100, 7.9039),
        (0.1, 4.0, 60, 0.8316),
        (0.1, 1.0, 60, 6.3366),
        (256 / 60000, 1.1, 14063, 2.5967),  # the setting of the MNIST tutorials of both libraries
    ],
)
def test_poisson_cohorts_cost_what_other_software_says(rate, noise, count, expected):
    assert epsilon(Rounds("poisson", rate, noise, count), DELTA) == pytest.approx(expected, rel=2e-3)


def test_poisson_cohorts_cost_what_opacus_own_accountant_says():
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    for _ in range(100):
        accountant.step(noise_multiplier=1.0, sample_rate=0.1)
    assert epsilon(Rounds("poisson", 0.1, 1.0, 100), DELTA) == pytest.approx(accountant.get_epsilon(DELTA), rel=1e-6)


def exact_gaussian(noise: float, count: int, delta: float) -> float:
    """The least epsilon of ``count`` Gaussian mechanisms, by bisection of the law of Balle and Wang (1805.06530)."""
    mu = math.sqrt(count) / noise

    def phi(t: float) -> float:
        return 0.5 * math.erfc(-t / math.sqrt(2))

    low, high = 0.0, 1000.0
    for _ in range(200):
        middle = (low + high) / 2
        met = phi(mu / 2 - middle / mu) - math.exp(middle) * phi(-mu / 2 - middle / mu) <= delta
        low, high = (low, middle) if met else (middle, high)
    return high


@pytest.mark.parametrize("noise", [2.0, 5.0, 20.0])
@pytest.mark.parametrize("count", [1, 10])
def test_without_sampling_it_is_just_above_the_exact_cost_of_the_gaussian_mechanism(noise, count):
    exact = exact_gaussian(noise, count, DELTA)
    assert exact <= epsilon(Rounds("none", 1.0, noise, count), DELTA) <= 1.2 * exact
    assert epsilon(Rounds("poisson", 1.0, noise, count), DELTA) == epsilon(Rounds("none", 0.3, noise, count), DELTA)


@pytest.mark.parametrize(
    ("rate", "noise", "order", "expected"),
    [
        # dp-accounting's bound for sampling without replacement; equal to this one at orders 2 and 3, tighter above.
        (0.1, 1.0, 2, 0.052939293727797626),
        (0.1, 1.0, 3, 0.09252058745303618),
    ],
)
def test_cohorts_of_fixed_size_cost_what_other_software_says(rate, noise, order, expected):
    assert fixed_size_cost(rate, noise, order) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("rate", "noise", "order", "tighter"), [(0.1, 2.0, 8, 0.05269026), (0.01, 1.5, 16, 0.00205564)]
)
def test_cohorts_of_fixed_size_are_bounded_from_above(rate, noise, order, tighter):
    assert tighter <= fixed_size_cost(rate, noise, order) <= min(1.5 * tighter, order / (2 * noise**2))


def test_cohorts_of_fixed_size_by_a_plain_sum():
    q, z, order = 0.05, 0.7, 5
    total = 1 + sum(
        math.comb(order, j)
        * q**j
        * (
            min(4 * (math.exp(1 / z**2) - 1), 2 * math.exp(1 / z**2))
            if j == 2
            else 2 * math.exp((j - 1) * j / 2 / z**2)
        )
        for j in range(2, order + 1)
    )
    assert fixed_size_cost(q, z, order) == pytest.approx(
        min(math.log(total) / (order - 1), order / 2 / z**2), rel=1e-12
    )


@pytest.mark.parametrize("noise", [2.0, 4.0])
def test_cohorts_of_fixed_size_are_charged_for_two_changes(noise):
    """Where one client is another, the sums of two cohorts differ by 2 clip; converted by hand (1905.09982)."""
    spent = [
        100 * fixed_size_cost(0.1, noise / 2, a) - (math.log(DELTA) + math.log(a)) / (a - 1) + math.log1p(-1 / a)
        for a in range(2, 64)
    ]
    assert epsilon(Rounds("without_replacement", 0.1, noise, 100), DELTA) == pytest.approx(min(spent), rel=1e-9)


def test_a_cohort_tells_no_more_than_everybody():
    assert fixed_size_cost(1.0, 2.0, 7) == 7 / 8
    assert fixed_size_cost(0.999, 0.5, 40) == 80.0


@pytest.mark.parametrize("draw", ["poisson", "without_replacement", "none"])
def test_epsilon_grows_with_rounds_and_falls_with_noise_and_delta(draw):
    def spent(noise=2.0, count=10, delta=DELTA):
        return epsilon(Rounds(draw, 0.1, noise, count), delta)

    assert spent(count=0) == 0.0
    growing = [spent(count=count) for count in (1, 2, 10, 100)]
    assert growing == sorted(set(growing))
    assert spent(noise=4.0) < spent() < spent(noise=1.0)
    assert spent(delta=1e-3) < spent() < spent(delta=1e-9)


def test_accounting_leaves_logs_as_they_are():
    told = (
        "import logging; from fedsep.privacy.accountant import _opacus; _opacus(); print(logging.getLogger().handlers)"
    )
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
