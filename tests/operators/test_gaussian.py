"""The Gaussian sketch: adjoint, orthonormal, the same from the same key, and refused where it cannot be."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedsep import random
from fedsep.core import FedSepError
from fedsep.operators import gaussian

shapes = st.tuples(st.integers(1, 12), st.integers(0, 40)).map(lambda pair: (pair[0], pair[0] + pair[1]))


def dense(sketch) -> torch.Tensor:
    return sketch.rmv(torch.eye(sketch.shape[0]))


@given(shape=shapes, seed=st.integers(0, 10**6), orthonormal=st.booleans())
def test_rmv_is_the_transpose_of_mv(shape, seed, orthonormal):
    sketch = gaussian(*shape, random.key(seed), orthonormal=orthonormal)
    assert sketch.shape == shape
    v, x = random.normal(random.key(1), shape[1]), random.normal(random.key(2), shape[0])
    torch.testing.assert_close(sketch.mv(v) @ x, v @ sketch.rmv(x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(sketch.mv(v), dense(sketch) @ v, rtol=1e-9, atol=1e-9)


@given(shape=shapes, seed=st.integers(0, 10**6))
def test_rows_are_orthonormal(shape, seed):
    rows = dense(gaussian(*shape, random.key(seed)))
    torch.testing.assert_close(rows @ rows.mT, torch.eye(shape[0]), rtol=0, atol=1e-9)


@given(p=st.integers(1, 8), seed=st.integers(0, 10**6), orthonormal=st.booleans())
def test_solve_makes_rmv_a_pseudo_inverse(p, seed, orthonormal):
    sketch = gaussian(p, p + 10, random.key(seed), orthonormal=orthonormal)
    x = random.normal(random.key(3), p)
    torch.testing.assert_close(sketch.mv(sketch.rmv(sketch.solve(x))), x, rtol=1e-8, atol=1e-8)


def test_a_square_matrix_is_inverted_in_float32_too():
    """S S^T has the condition of S squared, about p^4: the factor of a float32 matrix is taken in float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        sketch = gaussian(400, 400, random.key(8), orthonormal=False)
        v = random.normal(random.key(9), 400)
        again = sketch.rmv(sketch.solve(sketch.mv(v)))  # S^+ S v = v where p = d
    finally:
        torch.set_default_dtype(before)
    assert again.dtype == torch.float32
    assert (again - v).norm() < 0.01 * v.norm()


@pytest.mark.parametrize("orthonormal", [True, False])
@pytest.mark.parametrize("p", [2, 5, 12])
def test_batches_go_through_as_one_by_one(p, orthonormal):
    sketch = gaussian(p, 12, random.key(4), orthonormal=orthonormal)
    for apply, width in ((sketch.mv, 12), (sketch.rmv, p), (sketch.solve, p)):
        batch = random.normal(random.key(5), 2, 3, width)
        loop = torch.stack([torch.stack([apply(v) for v in row]) for row in batch])
        torch.testing.assert_close(apply(batch), loop, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(torch.vmap(torch.vmap(apply))(batch), loop, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("p", "d"), [(3, 40), (20, 40), (40, 40)])
def test_entries_are_drawn_by_counter_and_have_variance_one_over_p(p, d):
    drawn = gaussian(p, d, random.key(6), orthonormal=False)
    torch.testing.assert_close(dense(drawn), random.normal(random.key(6), p, d) / p**0.5)
    assert drawn.scale == d / p
    assert gaussian(p, d, random.key(6)).scale == 1.0


def test_a_matrix_of_more_than_one_block_is_the_same_draw():
    drawn = gaussian(70, 1001, random.key(7), orthonormal=False)  # 70,070 numbers, made 65,536 at a time
    torch.testing.assert_close(drawn.rows, random.normal(random.key(7), 70, 1001) / 70**0.5)


def test_both_ways_to_orthonormal_rows_span_the_rows_as_drawn():
    for p, d in ((5, 60), (30, 60)):  # Cholesky, QR
        rows, drawn = dense(gaussian(p, d, random.key(8))), random.normal(random.key(8), p, d)
        torch.testing.assert_close(drawn @ rows.mT @ rows, drawn, rtol=1e-9, atol=1e-9)


def test_the_mean_projection_keeps_p_over_d_of_a_step():
    p, d = 4, 12
    mean = sum(dense(s).mT @ dense(s) for s in (gaussian(p, d, random.key(n)) for n in range(2000))) / 2000
    torch.testing.assert_close(mean, p / d * torch.eye(d), rtol=0, atol=0.04)


def test_c_is_what_s_s_transposed_is_about():
    rows = dense(gaussian(10, 4000, random.key(9), orthonormal=False))
    torch.testing.assert_close((rows @ rows.mT) / (4000 / 10), torch.eye(10), rtol=0, atol=0.1)


def test_equal_keys_give_equal_operators_and_others_do_not():
    first = dense(gaussian(3, 20, random.key(10)))
    for n in range(3):  # more than are remembered
        gaussian(3, 20, random.key(20 + n))
    assert torch.equal(first, dense(gaussian(3, 20, random.key(10))))
    assert not torch.allclose(first, dense(gaussian(3, 20, random.key(11))))


def test_the_default_float_type_decides():
    in_double = gaussian(3, 20, random.key(12))
    torch.set_default_dtype(torch.float32)
    single = gaussian(3, 20, random.key(12))
    assert (in_double.rows.dtype, single.rows.dtype) == (torch.float64, torch.float32)


@pytest.mark.parametrize("p", [0, -1, 21])
def test_more_rows_than_columns_are_refused(p):
    with pytest.raises(FedSepError, match=rf"p must be between 1 and d = 20.*got {p}"):
        gaussian(p, 20, random.key(0))


def test_a_matrix_that_would_not_fit_is_refused():
    with pytest.raises(FedSepError, match=r"^p must be smaller: a stored .* takes .* GiB, the limit is 2; or choose"):
        gaussian(100_000, 1_000_000, random.key(0))
