"""Tensors as they lie in memory: dense and aligned, one by one and all slices of a stack at once."""

import pytest
import torch

from fedsep.settle import settled, spaced


@pytest.mark.parametrize("shape", [(3, 5), (3,), (3, 5, 1, 7), (3, 16), (0, 5), (2, 0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.uint8])
def test_every_slice_of_a_stack_is_settled(shape, dtype):
    stacked = torch.arange(torch.Size(shape).numel()).reshape(shape).to(dtype)
    parts = spaced(stacked).unbind()
    assert all(settled(part) is part for part in parts)
    assert all(torch.equal(part, own) for part, own in zip(parts, stacked.unbind(), strict=True))


def test_some_slices_of_a_dense_stack_are_not():
    parts = torch.zeros(3, 5).unbind()
    assert [settled(part) is part for part in parts] == [True, False, False]


def test_a_stack_in_another_order_is_left_alone():
    stacked = torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last)
    assert spaced(stacked) is stacked
