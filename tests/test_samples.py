"""Examples as batches: the bits of the formula, and nothing stored is ever changed."""

from __future__ import annotations

import itertools

import pytest
import torch

from fedsep.core import Samples

STORED = [torch.uint8, torch.int32, torch.float32, torch.float64]
CONSTANTS = [(None, None), (0.3, None), (None, 1 / 255), (33.3, 0.013)]


@pytest.mark.parametrize("default", [torch.float32, torch.float64])
@pytest.mark.parametrize("stored", STORED)
def test_a_batch_is_what_the_formula_gives_and_a_copy_where_it_was_computed(stored, default):
    torch.set_default_dtype(default)
    x = (7 * torch.arange(24.0) % 256).to(stored).reshape(6, 2, 2)
    for (shift, scale), index in itertools.product(CONSTANTS, [slice(1, 5), slice(None), torch.tensor([4, 0, 4])]):
        constants = [None if c is None else torch.tensor([c], dtype=torch.float64) for c in (shift, scale)]
        samples = Samples(x.clone(), torch.arange(6), *constants)
        batch = samples.take(index)
        kind = stored if stored.is_floating_point and shift is None else default
        expected = x[index].to(kind)
        expected = expected if shift is None else expected - torch.tensor(shift, dtype=torch.float64).to(kind)
        expected = expected if scale is None else expected * torch.tensor(scale, dtype=torch.float64).to(kind)
        assert batch.x.dtype == kind
        assert torch.equal(batch.x, expected)
        assert torch.equal(batch.y, torch.arange(6)[index])
        assert torch.equal(samples.x, x)


def test_batches_can_be_taken_inside_vmap():
    samples = Samples(torch.arange(12, dtype=torch.uint8).reshape(6, 2), torch.arange(6), torch.tensor(2.0))
    index = torch.tensor([[0, 3], [5, 5]])
    found = torch.func.vmap(lambda rows: samples.take(rows).x)(index)
    assert torch.equal(found, torch.stack([samples.take(rows).x for rows in index]))
