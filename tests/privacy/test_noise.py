"""The noise: its law, its secrecy, and the bound on what it covers."""

from __future__ import annotations

import hashlib
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from fedsep import tree
from fedsep.core import FedSepError
from fedsep.privacy.noise import SECRET_BYTES, clipped, new_secret, normal, normal_like, number

SECRET = bytes(range(SECRET_BYTES))


def test_draws_are_normal():
    draws = normal(SECRET, "noise", 3, 200_000)
    assert draws.dtype == torch.float64
    moments = [(draws**power).mean().item() for power in (1, 2, 3, 4)]
    assert moments == pytest.approx([0, 1, 0, 3], abs=0.05)
    for bound in (0.5, 1, 2, 3):
        share = (draws.abs() > bound).double().mean().item()
        expected = math.erfc(bound / math.sqrt(2))
        assert abs(share - expected) < 5 * math.sqrt(expected / len(draws))


def test_neighbouring_draws_and_blocks_are_not_correlated():
    draws = normal(SECRET, "noise", 0, 3 * (1 << 16))
    for lag in (1, 2, 1 << 16):
        assert abs((draws[:-lag] * draws[lag:]).mean().item()) < 5 / math.sqrt(len(draws) - lag)


def test_the_first_two_draws_are_box_muller_of_shake_256():
    """Written down from the definition, so that a secret gives the same noise in every version."""
    at = b"noise".ljust(16, b"\0") + (7).to_bytes(8, "little") + (0).to_bytes(8, "little")
    data = hashlib.shake_256(SECRET + at).digest(16)
    u, v = ((int.from_bytes(data[i : i + 8], "little") >> 11) + 0.5 for i in (0, 8))
    radius, angle = math.sqrt(-2 * math.log(u / 2**53)), 2 * math.pi * v / 2**53
    expected = torch.tensor([radius * math.cos(angle), radius * math.sin(angle)])
    assert_close(normal(SECRET, "noise", 7, 2), expected, rtol=1e-13, atol=0)


def test_a_secret_gives_its_noise_again_and_another_round_purpose_or_secret_gives_another():
    draws = normal(SECRET, "noise", 3, 100)
    assert torch.equal(draws, normal(SECRET, "noise", 3, 100))
    assert torch.equal(draws[:11], normal(SECRET, "noise", 3, 11))
    for other in (
        normal(SECRET, "noise", 4, 100),
        normal(SECRET, "share", 3, 100),
        normal(SECRET[::-1], "noise", 3, 100),
    ):
        assert abs(torch.corrcoef(torch.stack([draws, other]))[0, 1].item()) < 0.5
        assert (draws == other).sum() == 0


def test_secrets_are_the_operating_systems_unless_given():
    assert len({new_secret(None) for _ in range(8)}) == 8
    assert new_secret(1) == new_secret(1)
    assert len({new_secret(1), new_secret(2), new_secret(1, seed=1), new_secret(2, seed=1)}) == 4
    assert all(len(each) == SECRET_BYTES for each in (new_secret(None), new_secret(5)))
    assert 0 <= number(SECRET, "cohort", 0) < 2**63
    assert number(SECRET, "cohort", 0) != number(SECRET, "cohort", 1)


def test_names_in_another_order_get_the_same_noise():
    one = normal_like(SECRET, "noise", 0, {"a": torch.zeros(2), "b": torch.zeros(3, 2)})
    two = normal_like(SECRET, "noise", 0, {"b": torch.zeros(3, 2), "a": torch.zeros(2)})
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert list(two) == ["b", "a"]


@given(
    scale=st.floats(1e-30, 1e30),
    clip=st.floats(1e-6, 1e6),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_what_is_clipped_is_no_longer_than_the_bound_and_points_where_it_did(scale, clip, dtype):
    change = {"a": torch.tensor([3.0, -4.0], dtype=dtype) * scale, "b": torch.full((2, 2), scale, dtype=dtype)}
    short = clipped(change, clip)
    length = math.hypot(*(float(v) for part in change.values() for v in part.reshape(-1)))
    assert float(tree.norm(short)) <= clip * (1 + 1e-12)
    factor = min(1.0, clip / length)
    for name, part in change.items():
        assert_close(short[name], part.double() * factor, rtol=1e-12, atol=0)


@pytest.mark.parametrize("length", [1.001, 1.5, 2.0, 5.0])
def test_what_is_a_little_too_long_is_clipped_too(length):
    short = clipped({"a": torch.tensor([0.6, 0.0]) * length, "b": torch.tensor([[0.8]]) * length}, 1.0)
    assert float(tree.norm(short)) == pytest.approx(1.0, rel=1e-12)


def test_counters_cannot_be_covered_by_noise():
    with pytest.raises(FedSepError, match="floating point throughout"):
        clipped({"a": torch.ones(2), "n": torch.tensor(3)}, 1.0)
