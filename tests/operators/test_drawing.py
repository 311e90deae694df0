"""Whole numbers from keys: uniform, distinct, permutations without the permutation, signs by the piece."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedsep import random
from fedsep.operators import drawing
from fedsep.operators.drawing import below, distinct, flip, permuted, signs


@pytest.mark.parametrize("short", [0, 1 << 16])
@given(n=st.integers(1, 300), seed=st.integers(0, 10**6))
def test_permuted_is_a_permutation(short, n, seed):
    drawing._SHORT = short
    assert permuted(random.key(seed), n, torch.arange(n)).sort()[0].equal(torch.arange(n))


@given(n=st.integers(1, 64), tweaks=st.integers(1, 5))
def test_every_tweak_is_a_permutation_of_its_own(n, tweaks):
    index, tweak = torch.arange(n).repeat(tweaks), torch.arange(tweaks).repeat_interleave(n)
    both = permuted(random.key(1), n, index, tweak).view(tweaks, n)
    assert both.sort(-1)[0].equal(torch.arange(n).expand(tweaks, n))
    if n > 8:
        assert len({tuple(row) for row in both.tolist()}) == tweaks


@pytest.fixture(autouse=True)
def short():
    """As it was, whatever a test set it to: Hypothesis does not go together with monkeypatch."""
    before = drawing._SHORT
    yield
    drawing._SHORT = before


def chi_square(counts, expected) -> float:
    """Over its degrees of freedom: about 1."""
    return float(((counts - expected) ** 2 / expected).sum() / (counts.numel() - 1))


@pytest.mark.parametrize("n", [24, 100])
def test_permutations_are_uniform_over_keys_and_over_tweaks(monkeypatch, n):
    monkeypatch.setattr(drawing, "_SHORT", 0)
    draws = 2000
    over_keys = torch.stack([permuted(random.key(s), n, torch.arange(3)) for s in range(draws)])
    tweak = torch.arange(draws).repeat_interleave(3)
    over_tweaks = permuted(random.key(2), n, torch.arange(3).repeat(draws), tweak).view(draws, 3)
    for images in (over_keys, over_tweaks):
        for place in range(3):
            assert chi_square(torch.bincount(images[:, place], minlength=n).double(), draws / n) < 3.5
        together = torch.bincount(images[:, 0] * n + images[:, 1], minlength=n * n).view(n, n)
        assert not together.diagonal().any()
        pairs = together[~torch.eye(n, dtype=torch.bool)].double()
        assert chi_square(pairs, draws / (n * (n - 1))) < 2.5


@given(n=st.integers(1, 10**9), seed=st.integers(0, 10**6))
def test_distinct_numbers_increase_and_stay_below(n, seed):
    chosen = distinct(random.key(seed), n, min(n, 50))
    assert (chosen.diff() > 0).all()
    assert 0 <= int(chosen.min()) <= int(chosen.max()) < n


def test_a_million_of_a_billion_take_no_more_than_a_million():
    chosen = distinct(random.key(3), 10**9, 10**5)
    assert chosen.numel() == 10**5
    assert abs(float(chosen.double().mean()) / 5e8 - 1) < 5 / (3 * 10**5) ** 0.5


def test_below_is_the_upper_word_of_the_product_as_unsigned():
    draws = torch.cat([random.bits(random.key(4), 200), torch.tensor([0, -1, 2**63 - 1, -(2**63)])])
    for n in (1, 2, 10, 24_234, 10**8, 2**31 - 1):
        assert below(draws, n).tolist() == [(draw % 2**64) * n >> 64 for draw in draws.tolist()]


@pytest.mark.parametrize("count", [1, 63, 64, 65, 1000])
def test_signs_are_the_bits_of_the_draws(count):
    draws = random.bits(random.key(5), 40).tolist()
    expected = [1.0 - 2 * (draws[j // 64] >> (j % 64) & 1) for j in range(128, 128 + count)]
    assert signs(random.key(5), count, torch.float64, 128).tolist() == expected
    into = torch.empty(count)
    signs(random.key(5), count, torch.float64, 128, into=into)
    assert into.tolist() == expected


def test_flipping_by_pieces_is_flipping_at_once(monkeypatch):
    x = random.normal(random.key(6), 2, 1111)
    at_once = flip(x, random.key(7))
    assert torch.equal(at_once, x * signs(random.key(7), 1111, torch.float64))
    monkeypatch.setattr(drawing, "PIECE", 64)
    monkeypatch.setattr(drawing, "_DRAWN", 256)
    assert torch.equal(flip(x, random.key(7)), at_once)
    assert flip(x, random.key(7), into=x) is x
    assert torch.equal(x, at_once)
