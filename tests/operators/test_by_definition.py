"""Fast transforms against matrices written down from their definitions, and laws of single operators."""

import functools
import importlib
import math

import pytest
import scipy.linalg
import torch
from catalogue import network

from fedsep import random
from fedsep.core import FedSepError
from fedsep.operators import (
    Composed,
    Scaled,
    block_srht,
    composed,
    coordinates,
    count_sketch,
    dct,
    gaussian,
    per_layer,
    regenerated,
    sparse_signs,
    srht,
    walsh_hadamard,
)
from fedsep.operators.cg import solve_gram
from fedsep.operators.per_layer import shared_out

block_module = importlib.import_module("fedsep.operators.block_srht")
sketch_module = importlib.import_module("fedsep.operators.hashing")


def dense(sketch) -> torch.Tensor:
    return sketch.rmv(torch.eye(sketch.shape[0]))


def hadamard(n: int) -> torch.Tensor:
    return torch.from_numpy(scipy.linalg.hadamard(n)).double() / n**0.5


def signs(key, count: int, start: int = 0) -> torch.Tensor:
    """Bit j % 64 of draw j // 64."""
    draws = random.bits(key, (start + count + 63) // 64).tolist()
    return torch.tensor([1.0 - 2 * (draws[j // 64] >> (j % 64) & 1) for j in range(start, start + count)])


@pytest.mark.parametrize("bits", range(12))
def test_walsh_hadamard_is_sylvester_s_matrix(bits):
    torch.testing.assert_close(walsh_hadamard(torch.eye(1 << bits)), hadamard(1 << bits), rtol=0, atol=1e-12)


def test_walsh_hadamard_of_a_long_vector_undoes_itself_and_keeps_lengths():
    x = random.normal(random.key(0), 1 << 19)
    y = walsh_hadamard(x)
    torch.testing.assert_close(y.norm(), x.norm())
    torch.testing.assert_close(walsh_hadamard(y), x, rtol=0, atol=1e-12)
    spike = torch.zeros(1 << 19).index_fill_(0, torch.tensor([5]), 1.0)
    torch.testing.assert_close(walsh_hadamard(spike)[:8] * 2**9.5, torch.tensor([1.0, -1, 1, -1, -1, 1, -1, 1]))


@pytest.mark.parametrize("n", [1, 64, 4096, 1 << 13])
def test_walsh_hadamard_makes_the_same_bits_in_every_batch(n):
    x = random.normal(random.key(1), 3, 5, n)
    alone = torch.stack([torch.stack([walsh_hadamard(v.clone()) for v in row]) for row in x])
    assert torch.equal(walsh_hadamard(x), alone)
    assert torch.equal(walsh_hadamard(x.movedim(0, 1)), alone.movedim(0, 1))


@pytest.mark.parametrize("n", [0, 3, 12])
def test_walsh_hadamard_refuses_other_lengths(n):
    with pytest.raises(FedSepError, match=rf"power of two \(got {n}\)"):
        walsh_hadamard(torch.zeros(2, n))


@pytest.mark.parametrize(("p", "d"), [(1, 1), (3, 5), (6, 6), (7, 16), (20, 45), (9, 100), (100, 150)])
def test_dct_is_rows_of_cosines_under_signs(p, d):
    sketch = dct(p, d, random.key(2))
    k, j = sketch.frequencies, torch.arange(d)
    rows = (math.pi * k[:, None] * (2 * j + 1) / (2 * d)).cos() * torch.where(k == 0, 1 / d, 2 / d).sqrt()[:, None]
    assert k.unique().equal(k)
    torch.testing.assert_close(dense(sketch), rows * signs(random.fold(random.key(2), 0), d), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("p", "d"), [(1, 1), (3, 5), (8, 8), (20, 45), (40, 64), (9, 100)])
def test_srht_is_rows_of_a_hadamard_matrix_cut_to_d_columns(p, d):
    sketch = srht(p, d, random.key(3))
    n = 1 << math.ceil(math.log2(d))
    rows = (n / d) ** 0.5 * hadamard(n)[sketch.rows][:, :d] * signs(random.fold(random.key(3), 0), d)
    torch.testing.assert_close(dense(sketch), rows, rtol=0, atol=1e-12)
    torch.testing.assert_close(rows.square().sum(1), torch.ones(p))
    assert sketch.orthonormal == (n == d)


def test_padding_costs_srht_its_orthonormal_rows():
    rows = dense(srht(30, 45, random.key(4)))
    assert float((rows @ rows.mT - torch.eye(30)).abs().max()) > 0.1


def whole_transform(d: int, block: int, key, order) -> torch.Tensor:
    """Q of ``block_srht``, one step after another, each an orthogonal matrix."""
    count = d // block - 1
    into = torch.eye(d)[order] if order is not None else torch.eye(d)
    mixed, flips = hadamard(block), random.fold(key, 0)
    pieces = []
    for c in range(count):
        first = c // 64 * 64
        width = min(64, count - first)
        flip = signs(flips, block * width, first * block).view(block, width)[:, c - first]
        pieces.append(mixed @ (flip[:, None] * into[c : block * (count + 1) : count + 1]))
    left = d % block
    corner = torch.cat([into[count : block * (count + 1) : count + 1], into[d - left :]])
    corner = signs(random.fold(key, 1), block + left)[:, None] * corner
    corner = torch.cat([mixed @ corner[:block], corner[block:]])
    if left:
        corner = signs(random.fold(key, 2), block + left)[:, None] * corner
        corner = torch.cat([corner[:left], mixed @ corner[left:]])
    return torch.cat([*pieces, corner])


@pytest.mark.parametrize("shuffled", [True, False])
@pytest.mark.parametrize(("p", "d", "block"), [(5, 8, 8), (9, 30, 8), (45, 45, 8), (20, 283, 4), (9, 77, 4096)])
def test_block_srht_is_rows_of_a_product_of_orthogonal_steps(monkeypatch, p, d, block, shuffled):
    monkeypatch.setattr(block_module, "_SHUFFLED", d if shuffled else 0)
    key = random.key(100 + d + shuffled)
    sketch = block_srht(p, d, key, block=block)
    assert (sketch.order is not None) == shuffled
    q = whole_transform(d, sketch.block, key, sketch.order)
    torch.testing.assert_close(q @ q.mT, torch.eye(d), rtol=0, atol=1e-12)
    corner = sketch.block + d % sketch.block
    begins = torch.minimum(sketch.rows // sketch.block * sketch.block, torch.tensor(d - corner))
    torch.testing.assert_close(dense(sketch), q[begins + sketch.places], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("p", "d"), [(5, 200), (37, 205), (64, 4100), (500, 24_234)])
def test_block_srht_takes_as_many_rows_from_every_block(p, d):
    block = 8 if d < 1000 else 512
    sketch = block_srht(p, d, random.key(5), block=block)
    counts = torch.bincount(sketch.rows // block, minlength=d // block)[: d // block - 1]
    assert int(counts.max() - counts.min()) <= 1
    assert len({(int(r) // block, int(q)) for r, q in zip(sketch.rows, sketch.places, strict=True)}) == p


def test_block_srht_shows_every_entry_alike_also_where_entries_are_dealt(monkeypatch):
    monkeypatch.setattr(block_module, "_SHUFFLED", 0)
    p, d, draws = 3, 45, 800
    shown = torch.stack([dense(block_srht(p, d, random.key(9000 + n), block=8)).square().sum(0) for n in range(draws)])
    assert ((shown.mean(0) - p / d).abs() < 5 * shown.std(0) / draws**0.5).all()


def test_block_srht_does_not_depend_on_how_many_blocks_go_together(monkeypatch):
    v = random.normal(random.key(6), 8 * 300 + 5)
    narrow = block_srht(70, v.numel(), random.key(7), block=8)
    monkeypatch.setattr(block_module, "_width", lambda like: 256)
    wide = block_srht(70, v.numel(), random.key(7), block=8)
    x = narrow.mv(v)
    assert torch.equal(wide.mv(v), x)
    wide_back = wide.rmv(x)
    monkeypatch.undo()
    assert torch.equal(narrow.rmv(x), wide_back)


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize(("p", "d"), [(3, 3), (4, 50), (30, 50), (40, 50), (17, 70_001), (66_000, 70_001)])
def test_sparse_signs_have_one_sign_a_column_shared_out_evenly(monkeypatch, p, d, stored):
    monkeypatch.setattr(sketch_module, "_STORED", d if stored else 0)
    sketch = sparse_signs(p, d, random.key(8 + stored))
    row_of = (torch.arange(1.0, p + 1) / sketch.weights).expand(1, p)  # every row's number, as every column reads it
    read = sketch.rmv(row_of)[0].abs().round().long() - 1
    counts = torch.bincount(read, minlength=p)
    assert int(counts.sum()) == d
    assert counts.equal((1 / sketch.weights**2).round().long())
    assert int(counts.max() - counts.min()) <= 2
    positive = (sketch.rmv(torch.ones(p)) > 0).double().mean()
    if d > 10_000:
        assert abs(float(positive) - 0.5) < 5 * 0.5 / d**0.5


@pytest.mark.parametrize("d", [1000, 70_001])
def test_stored_signs_are_those_made_anew(monkeypatch, d):
    v = random.normal(random.key(9), d)
    kept = sparse_signs(20, d, random.key(10)).mv(v)
    monkeypatch.setattr(sketch_module, "_STORED", 0)
    sparse_signs(20, d, random.key(11)), sparse_signs(20, d, random.key(12))  # so that the first is forgotten
    anew = sparse_signs(20, d, random.key(10))
    assert anew.layers[0].signs is None
    torch.testing.assert_close(anew.mv(v), kept, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize(("rows", "d"), [(4, 33), (4, 48), (3, 50)])
def test_cells_laid_out_twice_make_the_same_operator(monkeypatch, rows, d, stored):
    monkeypatch.setattr(sketch_module, "_CELLS_IN_CACHE", 8)
    monkeypatch.setattr(sketch_module, "_STORED", d if stored else 0)
    twice = sketch_module.hashing(rows, d, random.key(9))
    monkeypatch.setattr(sketch_module, "_TWICE", d)
    once = sketch_module.hashing(rows, d, random.key(9))
    assert (twice.copies, once.copies) == (2, 1)
    assert len(twice.stretches) < len(once.stretches)
    v, x = random.normal(random.key(10), 2, 3, d), random.normal(random.key(11), 2, 3, rows)
    assert torch.equal(twice.spread(x), once.spread(x))
    torch.testing.assert_close(twice.add(v), once.add(v), rtol=1e-12, atol=1e-12)
    assert torch.equal(twice.counts(), once.counts())


@pytest.mark.parametrize("nonzeros", [1, 2, 5])
def test_sparse_signs_have_as_many_nonzeros_as_asked_for(nonzeros):
    rows = dense(sparse_signs(11, 40, random.key(13), nonzeros=nonzeros))
    assert ((rows != 0).sum(0) == nonzeros).all()
    torch.testing.assert_close(rows.square().sum(1), torch.ones(11))


@pytest.mark.parametrize("cells", [4, 8, 1 << 16])  # in the first two cases six and three blocks of columns
def test_two_columns_meet_in_a_row_no_more_often_than_by_chance(monkeypatch, cells):
    monkeypatch.setattr(sketch_module, "_CELLS_IN_CACHE", cells)
    p, d, draws = 4, 24, 600
    met = torch.zeros(d, d)
    for n in range(draws):
        held = (dense(sparse_signs(p, d, random.key(cells + n))) != 0).double()
        met += held.mT @ held
    off = met[~torch.eye(d, dtype=torch.bool)] / draws
    assert float(off.max()) < 1 / p + 5 * (0.25 * 0.75 / draws) ** 0.5


def test_coordinates_are_rows_of_the_identity():
    sketch = coordinates(5, 30, random.key(14))
    assert torch.equal(dense(sketch), torch.eye(30)[sketch.chosen])


def test_what_is_regenerated_is_what_would_be_stored():
    for p, d, block in ((7, 41, 64), (7, 41, 10), (7, 41, 1000), (3, 8, 5)):
        stored = gaussian(p, d, random.key(15), orthonormal=False)
        torch.testing.assert_close(dense(regenerated(p, d, random.key(15), block=block)), stored.rows)
        assert regenerated(p, d, random.key(15)).scale == stored.scale


def test_composition_and_scaling_are_products():
    inner, outer = sparse_signs(12, 30, random.key(16)), dct(5, 12, random.key(17))
    both = Scaled(Composed(outer, inner), 2.0)
    torch.testing.assert_close(dense(both), 2 * dense(outer) @ dense(inner))
    assert (both.scale, both.norm, both.orthonormal) == (4, 2, False)
    made = composed(between=12, outer=dct, inner=sparse_signs)(5, 30, random.key(18))
    assert (made.shape, made.inner.shape, made.orthonormal) == ((5, 30), (12, 30), True)
    assert not torch.equal(made.outer.key, made.inner.layers[0].key)


def test_layers_have_rows_of_their_own():
    sizes = [part.numel() for part in network.init().values()]
    sketch = per_layer(network, operator=functools.partial(gaussian, orthonormal=False))(9, network.d, random.key(19))
    rows, (top, left) = dense(sketch), (0, 0)
    for block, size, share in zip(sketch.blocks, sizes, shared_out(9, sizes), strict=True):
        assert block.shape == (share, size)
        torch.testing.assert_close(rows[top : top + share, left : left + size], block.rows)
        rows[top : top + share, left : left + size] = 0
        top, left = top + share, left + size
    assert not rows.any()
    assert sketch.norm == max(block.norm for block in sketch.blocks)


@pytest.mark.parametrize(("p", "sizes"), [(4, [4]), (9, [12, 3, 9, 3]), (4, [12, 3, 9, 3]), (27, [12, 3, 9, 3]),
                                          (500, [288, 32, 9216, 32, 9216, 32, 4096, 32, 1280, 10])])  # fmt: skip
def test_rows_are_shared_out_in_proportion(p, sizes):
    shares = shared_out(p, sizes)
    assert sum(shares) == p
    assert all(1 <= share <= size for share, size in zip(shares, sizes, strict=True))
    assert all(abs(share - p * size / sum(sizes)) < 2 for share, size in zip(shares, sizes, strict=True))


def test_a_dense_matrix_that_does_not_fit_is_refused_with_its_size_and_what_else_there_is():
    with pytest.raises(FedSepError, match=r"100000 x 1000000 matrix takes 745.1 GiB.*block_srht, dct, sparse_signs"):
        gaussian(100_000, 1_000_000, random.key(0))


class Twice:
    """Two rows that are the same."""

    shape, norm, orthonormal, scale = (2, 9), 18**0.5, False, 9.0

    def mv(self, v):
        return torch.stack([v.sum(-1), v.sum(-1)], -1)

    def rmv(self, x):
        return x.sum(-1, keepdim=True).expand(*x.shape[:-1], 9)


@pytest.mark.parametrize("x", [[1.0, -1.0], [1.0, 2.0]])
def test_an_operator_that_cannot_be_inverted_says_so(x):
    assert solve_gram(Twice(), torch.ones(2)).tolist() == pytest.approx([1 / 18, 1 / 18])
    with pytest.raises(FedSepError, match=r"too ill conditioned.*choose a smaller p, or an operator with orthonormal"):
        solve_gram(Twice(), torch.tensor(x))


def test_a_count_sketch_reads_heavy_hitters_back():
    d, cells = 2000, 400
    sketch = count_sketch(5 * cells, d, random.key(20), rows=5)
    v = 0.01 * random.normal(random.key(21), d)
    heavy = random.permutation(random.key(22), d)[:10]
    v[heavy] = 10.0
    read = sketch.estimate(sketch.mv(v))
    assert set(read.abs().topk(10).indices.tolist()) == set(heavy.tolist())
    assert float((read - v)[heavy].abs().max()) < 0.2
    torch.testing.assert_close(sketch.length(sketch.mv(v)), v.norm(), rtol=0.02, atol=0)


def test_a_spike_is_one_sign_a_row_and_estimates_are_medians():
    sketch = count_sketch(21, 50, random.key(23), rows=3)
    rows = dense(sketch).view(3, 7, 50)
    assert ((rows != 0).sum(1) == 1).all()
    assert set(rows.unique().tolist()) == {-1.0, 0.0, 1.0}
    x = random.normal(random.key(24), 21)
    by_row = torch.einsum("rc,rcj->rj", x.view(3, 7), rows)
    torch.testing.assert_close(sketch.estimate(x), by_row.sort(0)[0][1])


def test_estimates_are_unbiased():
    v, draws = random.normal(random.key(25), 30), 600
    read = torch.stack([s.estimate(s.mv(v)) for s in (count_sketch(15, 30, random.key(n), rows=3)
                                                     for n in range(draws))])  # fmt: skip
    assert ((read.mean(0) - v).abs() < 5 * read.std(0) / draws**0.5).all()
