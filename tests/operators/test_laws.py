"""Every operator keeps every law: adjoint, batches, norm, orthonormal rows where declared, unbiased, equal bits."""

import functools
import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
from catalogue import network
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsep import random
from fedsep.core import FedSepError
from fedsep.operators import (
    block_srht,
    composed,
    coordinates,
    count_sketch,
    dct,
    gaussian,
    per_layer,
    regenerated,
    scaled,
    sparse_signs,
    srht,
)
from fedsep.operators.per_layer import PerLayer, scale_of, stand_in


@dataclass(frozen=True)
class Layers:
    """What ``per_layer`` asks of a task: up to three tensors, of unequal sizes, of d numbers together."""

    p: int
    d: int

    def init(self):
        others = [max(1, self.d // 4)] * (min(3, self.p) - 1)
        sizes = [self.d - sum(others), *others]
        return {str(at): torch.zeros(size) for at, size in enumerate(sizes)}


def _rows(p: int) -> int:
    """As many as divide p."""
    return next(rows for rows in (5, 3, 1) if p % rows == 0)


MAKERS = {
    "gaussian": gaussian,
    "gaussian as drawn": functools.partial(gaussian, orthonormal=False),
    "regenerated": functools.partial(regenerated, block=64),
    "srht": srht,
    "block_srht": block_srht,
    "block_srht of 8": functools.partial(block_srht, block=8),
    "block_srht of 1": functools.partial(block_srht, block=1),
    "dct": dct,
    "sparse_signs": sparse_signs,
    "sparse_signs, three": lambda p, d, key: sparse_signs(p, d, key, nonzeros=min(3, p)),
    "coordinates": coordinates,
    "count_sketch of one row": functools.partial(count_sketch, rows=1),
    "scaled": scaled(factor=-3.0, operator=dct),
    "count_sketch of several rows": lambda p, d, key: count_sketch(p, d, key, rows=_rows(p)),
    "per_layer": lambda p, d, key: per_layer(Layers(p, d), operator=dct)(p, d, key),
    "composed": lambda p, d, key: composed(between=(p + d) // 2, outer=dct, inner=sparse_signs)(p, d, key),
}
"""For every p <= d."""
ORTHONORMAL = ["gaussian", "block_srht", "block_srht of 8", "block_srht of 1", "dct", "sparse_signs", "coordinates",
               "per_layer", "composed"]  # fmt: skip
INTEGER_MADE = [name for name in MAKERS if not name.startswith(("gaussian", "regenerated"))]

shapes = st.tuples(st.integers(1, 40), st.integers(0, 60)).map(lambda pair: (pair[0], sum(pair)))
each = pytest.mark.parametrize("name", MAKERS)


def dense(sketch) -> torch.Tensor:
    return sketch.rmv(torch.eye(sketch.shape[0]))


def near(a, b, tolerance=1e-9):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance * max(1.0, float(b.abs().max()) if b.numel() else 1.0))


@each
@given(shape=shapes, seed=st.integers(0, 10**6))
@settings(max_examples=15)
def test_mv_and_rmv_are_one_matrix_and_its_transpose(name, shape, seed):
    sketch = MAKERS[name](*shape, random.key(seed))
    assert sketch.shape == shape
    rows = dense(sketch)
    near(sketch.mv(torch.eye(shape[1])).mT, rows)
    v = random.normal(random.key(1), shape[1])
    near(sketch.mv(v), rows @ v)


@each
@given(shape=shapes, seed=st.integers(0, 10**6))
@settings(max_examples=15)
def test_norm_bounds_and_rows_are_orthonormal_where_that_is_said(name, shape, seed):
    sketch = MAKERS[name](*shape, random.key(seed))
    rows = dense(sketch)
    assert float(torch.linalg.matrix_norm(rows, 2)) <= sketch.norm * (1 + 1e-9)
    if sketch.orthonormal:
        near(rows @ rows.mT, torch.eye(shape[0]))
        assert (sketch.norm, sketch.scale) == (1, 1)


@pytest.mark.parametrize("name", ORTHONORMAL)
@pytest.mark.parametrize("d", [1, 2, 7, 64, 77])
def test_all_rows_make_an_orthogonal_map(name, d):
    sketch = MAKERS[name](d, d, random.key(d))
    assert sketch.orthonormal
    near(dense(sketch).mT @ dense(sketch), torch.eye(d))


@each
def test_linear(name):
    sketch, (a, b) = MAKERS[name](6, 33, random.key(3)), (random.normal(random.key(n), 33) for n in range(2))
    near(sketch.mv(a - 2 * b), sketch.mv(a) - 2 * sketch.mv(b))
    assert torch.equal(sketch.mv(torch.zeros(33)), torch.zeros(6))


@each
@pytest.mark.parametrize("p", [1, 6, 20])
def test_batches_go_through_as_one_by_one_also_inside_vmap(name, p):
    sketch = MAKERS[name](p, 60, random.key(4))
    for apply, width in ((sketch.mv, 60), (sketch.rmv, p), (sketch.solve, p)):
        batch = random.normal(random.key(5), 2, 3, width)
        loop = torch.stack([torch.stack([apply(v) for v in row]) for row in batch])
        near(apply(batch), loop, 1e-8)
        near(torch.vmap(torch.vmap(apply, in_dims=1), in_dims=0)(batch.mT.contiguous()), loop, 1e-8)


# The first forward derivative in a process compiles something of torch's by a function that torch deprecates.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
@each
def test_derivatives_are_the_matrix(name):
    sketch = MAKERS[name](5, 23, random.key(6))
    v, x = random.normal(random.key(7), 23), random.normal(random.key(8), 5)
    near(torch.func.jacrev(sketch.mv)(v), dense(sketch))
    near(torch.func.jacfwd(sketch.rmv)(x), dense(sketch).mT)
    v.requires_grad_(True)
    near(torch.autograd.grad(sketch.mv(v) @ x, v)[0], sketch.rmv(x))


@each
@pytest.mark.parametrize(("p", "d"), [(1, 9), (5, 64), (20, 45)])
def test_solve_makes_rmv_a_pseudo_inverse(name, p, d):
    sketch = MAKERS[name](p, d, random.key(9))
    x = random.normal(random.key(10), 2, p)
    near(sketch.mv(sketch.rmv(sketch.solve(x))), x, 1e-8)


TARGETS = {"scaled": 9.0, "gaussian as drawn": 18 / 5, "regenerated": 18 / 5, "count_sketch of one row": 18 / 5,
           "count_sketch of several rows": 18}  # fmt: skip


# a layer's share of the rows is rounded: it is unbiased but for that
@pytest.mark.parametrize("name", [name for name in MAKERS if name != "per_layer"])
def test_the_mean_projection_is_unbiased(name):
    """E S^T S = p/d I, times what the operator's scale says; five standard errors, every entry."""
    p, d, draws = 5, 18, 250
    all_of_them = torch.stack([(m := dense(MAKERS[name](p, d, random.key(n)))).mT @ m for n in range(draws)])
    error = all_of_them.std(0) / draws**0.5
    apart = (all_of_them.mean(0) - TARGETS.get(name, 1.0) * p / d * torch.eye(d)).abs()
    assert (apart <= 5 * error + 1e-12).all()


@each
def test_scale_is_the_mean_square_of_a_row(name):
    p, d = 4, 200
    squares = torch.stack([dense(MAKERS[name](p, d, random.key(n))).square().sum(1).mean() for n in range(40)])
    scale = MAKERS[name](p, d, random.key(0)).scale
    torch.testing.assert_close(squares.mean(), torch.tensor(scale), rtol=0.02, atol=0)


@each
def test_equal_keys_give_equal_operators_and_others_do_not(name):
    first = dense(MAKERS[name](5, 40, random.key(1)))
    for n in range(3):  # more than are remembered
        MAKERS[name](5, 40, random.key(20 + n))
    assert torch.equal(first, dense(MAKERS[name](5, 40, random.key(1))))
    assert not torch.allclose(first, dense(MAKERS[name](5, 40, random.key(2))))


@each
def test_single_precision_is_double_precision_rounded(name):
    v = random.normal(random.key(3), 150)
    double = MAKERS[name](9, 150, random.key(4)).mv(v)
    torch.set_default_dtype(torch.float32)
    sketch = MAKERS[name](9, 150, random.key(4))
    single = sketch.mv(v.float())
    assert (single.dtype, sketch.rmv(single).dtype) == (torch.float32, torch.float32)
    near(single.double(), double, 3e-6)


@pytest.mark.parametrize("name", INTEGER_MADE)
def test_the_vector_s_float_type_decides_whatever_the_default_was(name):
    sketch, v = MAKERS[name](9, 150, random.key(4)), random.normal(random.key(3), 150)
    assert sketch.mv(v.float()).dtype == torch.float32
    near(sketch.mv(v.float()).double(), sketch.mv(v), 3e-6)


def fingerprints() -> dict[str, str]:
    """A hash of what every operator makes of one vector, bit for bit, and of the transpose."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    v = random.normal(random.key(0), 900)
    found = {}
    for name, make in MAKERS.items():
        sketch = make(60, 900, random.key(11))
        both = torch.cat([sketch.mv(v), sketch.rmv(v[:60])])
        found[name] = hashlib.sha256(both.numpy().tobytes()).hexdigest()
    return found


def test_two_processes_make_the_same_bits():
    script = "import json, sys; sys.path.insert(0, 'tests'); sys.path.insert(0, 'tests/operators');"
    script += "import test_laws; print(json.dumps(test_laws.fingerprints()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == fingerprints()


@each
@pytest.mark.parametrize("p", [0, -1, 21])
def test_more_rows_than_columns_are_refused(name, p):
    # The number between would be refused first.
    make = composed(between=20, outer=dct, inner=dct) if name == "composed" else MAKERS[name]
    with pytest.raises(FedSepError, match=rf"p must be between 1 and d = 20.*got {p}"):
        make(p, 20, random.key(0))


def test_other_arguments_are_refused_by_name():
    key = random.key(0)
    for refused, text in {
        lambda: sparse_signs(4, 9, key, nonzeros=5): r"nonzeros must be between 1 and p = 4 \(got 5\)",
        lambda: sparse_signs(4, 9, key, nonzeros=0): r"nonzeros must be between 1 and p = 4 \(got 0\)",
        lambda: block_srht(4, 9, key, block=6): r"block must be a power of two \(got 6\)",
        lambda: count_sketch(8, 9, key, rows=2): r"rows must be odd.*\(got 2\)",
        lambda: count_sketch(8, 9, key, rows=4): r"rows must be odd.*\(got 4\)",
        lambda: count_sketch(7, 9, key, rows=4): r"rows must be odd.*\(got 4\)",
        lambda: count_sketch(8, 9, key, rows=3): r"p must be a multiple of rows = 3.*\(got 8\)",
        lambda: scaled(factor=0): r"factor must not be 0",
        lambda: composed(between=3)(4, 9, key): r"between must be between p = 4 and d = 9 \(got 3\)",
        lambda: composed(between=10)(4, 9, key): r"between must be between p = 4 and d = 9 \(got 10\)",
        lambda: per_layer(network)(3, network.d, key): r"p must be at least 4.*\(got 3\)",
        lambda: per_layer(network)(5, 99, key): r"the tensors have 27 numbers, the vector 99",
    }.items():
        with pytest.raises(FedSepError, match=text):
            refused()


def test_blocks_that_fit_one_by_one_but_not_together_are_refused_before_any_is_made(monkeypatch):
    monkeypatch.setattr(sys.modules["fedsep.operators.gaussian"], "_normal", None)
    of_layers = PerLayer((40_000,) * 8, gaussian)  # 8 times 0.3 GiB in double precision
    for ask in (of_layers, of_layers.scale, functools.partial(scale_of, of_layers)):
        with pytest.raises(FedSepError, match=r"per_layer: 8000 stored rows in 8 blocks take 2\.4 GiB, the limit is 2"):
            ask(8000, 320_000, random.key(0))
    assert of_layers.scale(4000, 320_000, random.key(0)) == 1.0
    assert scale_of(PerLayer((30, 60), functools.partial(gaussian, orthonormal=False)), 9, 90, random.key(0)) == 10.0


def test_the_scale_that_is_told_is_that_of_the_operator_that_is_made():
    drawn = functools.partial(gaussian, orthonormal=False)
    for make in (gaussian, drawn, sparse_signs, PerLayer((5, 15), drawn), PerLayer((5, 15), dct)):
        made = make(4, 20, random.key(1))
        assert scale_of(make, 4, 20, random.key(1)) == pytest.approx(made.scale)
        assert stand_in(make, 4, 20, random.key(1))(4, 20, random.key(1)).scale == pytest.approx(made.scale)


def test_what_stores_nothing_is_checked_as_it_is():
    assert stand_in(block_srht, 4, 20, random.key(1)) is block_srht
    assert stand_in(gaussian, 4, 20, random.key(1)) is not gaussian
