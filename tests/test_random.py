"""Keys: the draws are splitmix64's, independent of each other, the same in vmap, in pieces and in other processes."""

import hashlib
import subprocess
import sys
from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedsep import random

MASK = (1 << 64) - 1


def splitmix64(z: int) -> int:
    """The finaliser in plain integers (Steele, Lea, Flood 2014)."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def unsigned(value) -> int:
    return int(value) & MASK


@given(st.integers(-(2**62), 2**62), st.integers(0, 1000))
def test_bits_are_those_of_splitmix64(seed, start):
    key = random.key(seed)
    assert unsigned(key) == splitmix64(seed & MASK)
    golden = 0x9E3779B97F4A7C15
    expected = [splitmix64((unsigned(key) + golden * (start + n)) & MASK) for n in range(1, 6)]
    assert [unsigned(draw) for draw in random.bits(key, 5, start)] == expected
    folded = splitmix64(unsigned(key) ^ splitmix64((start + golden) & MASK))
    assert unsigned(random.fold(key, start)) == folded


def test_uniform_moments():
    draws = random.uniform(random.key(1), 200_000)
    assert draws.dtype == torch.float64
    assert draws.min() >= 0
    assert draws.max() < 1
    for power in (1, 2, 3, 4):
        assert draws.pow(power).mean().item() == pytest.approx(1 / (power + 1), abs=0.003)
    counts = torch.histc(draws, 50, 0, 1)
    assert ((counts - 4000) ** 2 / 4000).sum() < 95  # chi squared, 49 degrees of freedom: 1 in 10,000


def test_normal_moments():
    draws = random.normal(random.key(2), 200_001)
    for power, expected in ((1, 0.0), (2, 1.0), (3, 0.0), (4, 3.0)):
        assert draws.pow(power).mean().item() == pytest.approx(expected, abs=0.05), power
    for bound, share in ((1.0, 0.31731), (2.0, 0.0455), (3.0, 0.0027)):
        assert (draws.abs() > bound).double().mean().item() == pytest.approx(share, abs=0.002)
    assert torch.isfinite(draws).all()
    assert abs(torch.corrcoef(torch.stack([draws[:-1:2], draws[1::2]]))[0, 1]) < 0.01  # the two of one counter


def test_in_float32_draws_are_float32_and_never_1():
    torch.set_default_dtype(torch.float32)
    draws = random.uniform(random.key(3), 500_000)
    assert draws.dtype == torch.float32
    assert draws.max() < 1
    normal = random.normal(random.key(3), 500_000)
    assert normal.dtype == torch.float32
    assert torch.isfinite(normal).all()


def test_integers_are_uniform_below_their_bound():
    draws = random.integers(random.key(4), 6, 60_000)
    assert draws.dtype == torch.int64
    counts = torch.bincount(draws, minlength=6)
    assert len(counts) == 6
    assert ((counts - 10_000).double() ** 2 / 10_000).sum() < 26  # 5 degrees of freedom
    assert random.integers(random.key(4), 2**31 - 1, 1000).max() < 2**31 - 1
    assert random.integers(random.key(4), 1, 5).tolist() == [0] * 5


@pytest.mark.parametrize("below", [0, -1, 2**31])
def test_integers_refuse_an_impossible_bound(below):
    with pytest.raises(ValueError, match="below must be in"):
        random.integers(random.key(0), below)


def test_folds_are_independent():
    key = random.key(5)
    streams = [random.uniform(random.fold(key, n), 20_000) for n in range(4)]
    streams += [random.uniform(random.fold(random.fold(key, n), 0), 20_000) for n in range(2)]
    streams += [random.uniform(random.fold(random.key(6), 0), 20_000), random.uniform(key, 20_000)]
    correlations = torch.corrcoef(torch.stack(streams)) - torch.eye(len(streams))
    assert correlations.abs().max() < 0.035  # 5 standard deviations
    shifted = torch.corrcoef(torch.stack([streams[0][1:], streams[1][:-1], streams[0][:-1]])) - torch.eye(3)
    assert shifted.abs().max() < 0.035


def test_keys_do_not_collide_and_the_order_of_folds_matters():
    rounds = random.fold(random.key(0), torch.arange(300))
    keys = torch.cat([random.fold(key, torch.arange(100)) for key in rounds])
    assert len(keys.unique()) == len(keys)
    a = random.fold(random.fold(random.key(0), 1), 2)
    assert a != random.fold(random.fold(random.key(0), 2), 1)


def test_folding_many_numbers_is_folding_each():
    many = random.fold(random.key(7), torch.tensor([3, 1, 4]))
    assert many.tolist() == [int(random.fold(random.key(7), n)) for n in (3, 1, 4)]


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1))
def test_folding_a_number_is_folding_a_tensor_of_it(key, number):
    key = random.as_key(key)
    folded, whole = random.fold(key, number), random.fold(key, torch.tensor(number))
    assert (int(folded), folded.dtype, folded.shape) == (int(whole), whole.dtype, whole.shape)


@pytest.mark.parametrize("draw", [
    lambda key: random.uniform(key, 3, 2),
    lambda key: random.normal(key, 5),
    lambda key: random.permutation(key, 7),
    lambda key: random.integers(key, 10, 4),
    lambda key: random.fold(key, 3),
    lambda key: random.bits(key, 4, 2),
], ids=["uniform", "normal", "permutation", "integers", "fold", "bits"])  # fmt: skip
def test_vmap_equals_the_loop(draw):
    keys = random.fold(random.key(8), torch.arange(5))
    assert torch.equal(torch.vmap(draw)(keys), torch.stack([draw(key) for key in keys]))


@given(st.integers(0, 10**6), st.integers(1, 80), st.lists(st.integers(0, 40), max_size=4))
def test_normal_by_pieces_is_the_whole(seed, count, cuts):
    key = random.key(seed)
    whole = random.normal(key, count)
    bounds = sorted({0, *(min(2 * cut, count) for cut in cuts), count})
    pieces = [random.normal(key, stop - start, start=start // 2)
              for start, stop in pairwise(bounds)]  # fmt: skip
    assert torch.equal(torch.cat(pieces), whole)


def test_normal_by_pieces_is_the_whole_where_it_is_long_and_in_float32():
    torch.set_default_dtype(torch.float32)
    whole = random.normal(random.key(9), 10_001)
    pieces = [random.normal(random.key(9), min(1000, 10_001 - at), start=at // 2) for at in range(0, 10_001, 1000)]
    assert torch.equal(torch.cat(pieces), whole)


def test_a_permutation_has_every_number_once_and_every_order_is_as_likely():
    assert random.permutation(random.key(10), 100).sort().values.tolist() == list(range(100))
    counts = {}
    for key in random.fold(random.key(11), torch.arange(3000)):
        order = tuple(random.permutation(key, 3).tolist())
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 6
    assert sum((count - 500) ** 2 / 500 for count in counts.values()) < 26


def test_a_sample_is_without_replacement_and_every_set_is_as_likely():
    counts = dict.fromkeys(combinations(range(5), 2), 0)
    for key in random.fold(random.key(12), torch.arange(3000)):
        counts[tuple(random.sample(key, 5, 2))] += 1
    assert sum((count - 300) ** 2 / 300 for count in counts.values()) < 34  # 9 degrees of freedom


@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(0, 70))
def test_a_sample_is_sorted_distinct_and_below_its_bound(seed, n, k):
    drawn = random.sample(random.key(seed), n, k)
    assert len(drawn) == min(n, k)
    assert drawn == sorted(set(drawn))
    assert not drawn or (drawn[0] >= 0 and drawn[-1] < n)


def test_a_sample_of_a_few_out_of_very_many_costs_little():
    assert len(random.sample(random.key(13), 10**12, 5)) == 5


DIGEST = """
import hashlib, torch
from fedsep import random
torch.set_default_dtype(torch.float64)
key = random.fold(random.fold(random.key(-7), 3), 1)
parts = [random.bits(key, 64), random.integers(key, 1000, 64), random.permutation(key, 64), random.uniform(key, 64),
         random.normal(key, 63), torch.tensor(random.sample(key, 100, 9))]
print(hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest())
"""


def test_another_process_draws_the_same_bits(capsys):
    there = subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True).stdout
    exec(DIGEST, {})
    assert capsys.readouterr().out == there


def test_the_integers_never_change_from_one_version_to_the_next():
    drawn = random.bits(random.fold(random.key(2023), 5), 1000)
    digest = hashlib.sha256(drawn.numpy().tobytes()).hexdigest()
    assert digest == "7540e1d5cb10424ee828092138c19a9e05bf43da365947c82908a0746151f3b3"


def test_draws_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    random.normal(random.key(0), 10)
    random.permutation(random.key(0), 10)
    random.sample(random.key(0), 10, 3)
    assert torch.equal(before, torch.get_rng_state())
