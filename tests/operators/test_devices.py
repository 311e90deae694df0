"""Both ends make the same S on a CPU and on a GPU: bit for bit where it is made of whole numbers, else to rounding."""

from __future__ import annotations

import functools

import pytest
import torch

from fedsep import operators, random

DEVICE, P, D = "cuda", 24, 5000

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

WHOLE = {
    "coordinates": operators.coordinates,
    "sparse_signs": operators.sparse_signs,
    "sparse_signs nonzeros=3": functools.partial(operators.sparse_signs, nonzeros=3),
    "count_sketch": functools.partial(operators.count_sketch, rows=3),
    "srht": operators.srht,
    "block_srht": operators.block_srht,
    "block_srht block=64": functools.partial(operators.block_srht, block=64),
}
ROUNDED = {
    "dct": operators.dct,
    "gaussian": operators.gaussian,
    "gaussian as drawn": functools.partial(operators.gaussian, orthonormal=False),
    "regenerated": operators.regenerated,
}


def rows(make, device):
    """S, row by row: no sum has more than one part that is not 0, so that its order is no matter."""
    sketch = make(P, D, random.key(3).to(device))
    made = sketch.rmv(torch.eye(P, device=device))
    assert made.device.type == device
    return made.cpu()


@pytest.mark.parametrize("make", WHOLE.values(), ids=WHOLE.keys())
def test_whole_numbers_are_the_same_bits(make):
    assert torch.equal(rows(make, "cpu"), rows(make, DEVICE))


@pytest.mark.parametrize("make", ROUNDED.values(), ids=ROUNDED.keys())
def test_others_are_the_same_to_rounding(make):
    torch.testing.assert_close(rows(make, "cpu"), rows(make, DEVICE), rtol=0, atol=1e-9)


@pytest.mark.parametrize("make", [*WHOLE.values(), *ROUNDED.values()], ids=[*WHOLE, *ROUNDED])
def test_products_are_the_same_to_rounding(make):
    v = random.normal(random.key(4), D)
    there = make(P, D, random.key(3).to(DEVICE)).mv(v.to(DEVICE)).cpu()
    torch.testing.assert_close(make(P, D, random.key(3)).mv(v), there, rtol=1e-9, atol=1e-9)
