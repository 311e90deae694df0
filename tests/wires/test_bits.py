"""Codes of a few bits: nothing is lost, nothing is wasted, and the layout is the one that is written down."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedsep.wires import bits


@given(data=st.data(), width=st.integers(0, 63), count=st.integers(0, 70))
def test_round_trip_at_every_length_and_width(data, width, count):
    codes = data.draw(st.lists(st.integers(0, 2**width - 1), min_size=count, max_size=count))
    packed = bits.pack(torch.tensor(codes, dtype=torch.int64), width)
    assert packed.dtype == torch.uint8
    assert packed.numel() == bits.packed_bytes(count, width) == -(-count * width // 8)
    assert bits.unpack(packed, width, count).tolist() == codes


@given(data=st.data(), width=st.integers(1, 40))
def test_the_layout_is_one_long_number_lowest_bits_first(data, width):
    codes = data.draw(st.lists(st.integers(0, 2**width - 1), max_size=30))
    number = sum(code << (place * width) for place, code in enumerate(codes))
    expected = number.to_bytes(-(-len(codes) * width // 8), "little")
    assert bytes(bits.pack(torch.tensor(codes, dtype=torch.int64), width).tolist()) == expected


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32, torch.int64])
def test_one_bit_from_any_kind_of_number(dtype):
    codes = torch.tensor([1, 0, 0, 1, 1, 0, 1, 0, 1]).to(dtype)
    assert bits.pack(codes, 1).tolist() == [0b01011001, 1]


def test_what_is_packed_does_not_hold_on_to_more_memory_than_it_needs():
    packed = bits.pack(torch.ones(9, dtype=torch.uint8), 3)
    assert packed.untyped_storage().nbytes() == packed.numel() == 4
