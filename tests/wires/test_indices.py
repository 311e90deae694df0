"""Codes of positions: the same positions come back, in the bytes that the formulas say."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedsep.core import FedSepError
from fedsep.wires.indices import Int32, index_code, rice

NAMES = ["int32", "packed", "golomb"]


@st.composite
def positions(draw):
    size = draw(st.integers(1, 400))
    return sorted(draw(st.sets(st.integers(0, size - 1)))), size


@pytest.mark.parametrize("name", NAMES)
@given(given=positions())
def test_round_trip(name, given):
    places, size = given
    code = index_code(name)
    packed = code.pack(torch.tensor(places, dtype=torch.int64), size)
    assert code.unpack(packed, len(places), size).tolist() == places


def reference(places, low):
    """Golomb-Rice codes as in the textbook, one after the other, as a string of digits."""
    string, before = "", -1
    for place in places:
        gap = place - before - 1
        string += "1" * (gap >> low) + "0"
        string += format(gap & (2**low - 1), f"0{low}b") if low else ""
        before = place
    return string


@given(given=positions())
def test_golomb_is_as_long_as_the_reference_coder(given):
    places, size = given
    packed = index_code("golomb").pack(torch.tensor(places, dtype=torch.int64), size)
    assert packed.numel() == -(-len(reference(places, rice(len(places), size))) // 8)


@pytest.mark.parametrize(("count", "size"), [(100, 24_234), (50, 24_234), (300, 1_000), (999, 1_000)])
def test_golomb_reaches_the_expected_length_on_random_positions(count, size):
    low = rice(count, size)
    if count < size:
        star = 1 + math.floor(math.log2(math.log((math.sqrt(5) - 1) / 2) / math.log(1 - count / size)))
        assert low == max(star, 0)
    generator = torch.Generator().manual_seed(0)
    lengths = [
        index_code("golomb").pack(torch.randperm(size, generator=generator)[:count].sort().values, size).numel()
        for _ in range(200)
    ]
    expected = count * (low + 1 / (1 - (1 - count / size) ** (2**low))) / 8
    assert sum(lengths) / 200 == pytest.approx(expected + 0.5, rel=0.01)  # half a byte is lost at the end


@pytest.mark.parametrize("low", range(1, 9))
def test_the_parameter_is_never_beaten_by_much(low):
    count, size = 200, 10_000
    generator = torch.Generator().manual_seed(1)
    places = torch.randperm(size, generator=generator)[:count].sort().values.tolist()
    assert len(reference(places, rice(count, size))) <= 1.02 * len(reference(places, low))


@pytest.mark.parametrize(("count", "size"), [(3, 10), (7, 1_024), (100, 24_234)])
def test_bytes(count, size):
    places = torch.arange(count)
    assert index_code("int32").pack(places, size).nbytes == 4 * count
    assert index_code("packed").pack(places, size).nbytes == math.ceil(count * math.ceil(math.log2(size)) / 8)


def test_a_million_positions_are_packed_without_a_loop():
    generator = torch.Generator().manual_seed(2)
    places = torch.randperm(20_000_000, generator=generator)[:1_000_000].sort().values
    code = index_code("golomb")
    assert torch.equal(code.unpack(code.pack(places, 20_000_000), 1_000_000, 20_000_000), places)


def test_int32_refuses_what_it_cannot_count():
    with pytest.raises(FedSepError, match=r"int32.*packed"):
        Int32().pack(torch.tensor([0]), 2**31 + 1)
    assert index_code("packed").pack(torch.tensor([2**31]), 2**31 + 1).numel() == 4
