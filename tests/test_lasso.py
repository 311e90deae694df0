"""The LASSO solvers against scikit-learn, the optimality conditions, and each other."""

import pytest
import torch
from sklearn.linear_model import Lasso

from fedsep import lasso, random
from fedsep.lasso import Matrix, fista, ista, prepared
from fedsep.lasso.recurrence import following, nothing
from fedsep.operators import gaussian

P, D = 20, 90


def problem(beta: float = 0.2, seed: int = 1, p: int = P, d: int = D):
    """S with entries N(0, 1/p), x, and beta in units of |S^T x|_inf."""
    rows = random.normal(random.fold(random.key(seed), 0), p, d) / p**0.5
    x = random.normal(random.fold(random.key(seed), 1), p)
    return rows, x, beta * float((rows.mT @ x).abs().max())


def objective(rows, x, beta, y):
    return float(0.5 * (x - rows @ y).square().sum() + beta * y.abs().sum())


def oracle(rows, x, beta):
    """scikit-learn's minimiser; its objective is 1/p of ours."""
    model = Lasso(alpha=beta / len(x), fit_intercept=False, tol=1e-15, max_iter=1_000_000)
    return torch.from_numpy(model.fit(rows.numpy(), x.numpy()).coef_)


def solved(decoder, rows, x, beta, *, steps=4000, tolerance=1e-13, start=None):
    start = torch.zeros(rows.shape[1]) if start is None else start
    if decoder == "ista":
        gamma = 1 / lasso.squared_norm(Matrix(rows), rows.shape[1])
        return ista(Matrix(rows), x, beta, start, gamma=gamma, steps=steps, tolerance=tolerance)
    return fista(Matrix(rows), x, beta, start, steps=steps, tolerance=tolerance)


@pytest.mark.parametrize("decoder", ["ista", "fista"])
@pytest.mark.parametrize("beta", [0.1, 0.5, 0.95])
def test_both_find_scikit_learns_minimiser(decoder, beta):
    rows, x, beta = problem(beta)
    found, wanted = solved(decoder, rows, x, beta).y, oracle(rows, x, beta)
    torch.testing.assert_close(found, wanted, atol=2e-6, rtol=0)
    assert torch.equal(found != 0, wanted != 0)
    assert objective(rows, x, beta, found) <= objective(rows, x, beta, wanted) * (1 + 1e-12)


def test_an_operator_without_columns_gives_the_same():
    rows, x, beta = problem()

    class Bare:
        mv, rmv = staticmethod(lambda v: v @ rows.mT), staticmethod(lambda u: u @ rows)

    assert not isinstance(Bare(), lasso.Columns)
    bare = fista(Bare(), x, beta, torch.zeros(D), steps=4000, tolerance=1e-13)
    torch.testing.assert_close(bare.y, oracle(rows, x, beta), atol=2e-6, rtol=0)


class Counted(Matrix):
    """Counts the products with the whole matrix."""

    def mv(self, v):
        taken.append("mv")
        return super().mv(v)

    def rmv(self, x):
        taken.append("rmv")
        return super().rmv(x)


taken: list[str] = []


def test_a_prepared_matrix_takes_one_product_a_step_to_the_same_place():
    """From a dense start every step is on all of S; 60 steps carry S y along twice, and a bit."""
    rows, x, beta = problem(0.005, p=40, d=400)
    rows, start = Counted(rows), random.normal(random.key(5), 400)
    ready = prepared(rows, rows.rows @ rows.rows.mT)
    plain = fista(rows, x, beta, start, steps=60, tolerance=0.0)
    taken.clear()
    short = fista(rows, x, beta, start, steps=60, tolerance=0.0, prepare=lambda: ready)
    assert taken.count("rmv") <= 60 + 3
    assert taken.count("mv") <= 20
    torch.testing.assert_close(short.y, plain.y, rtol=1e-9, atol=1e-11)
    assert torch.equal(short.y == 0, plain.y == 0)
    assert (short.y == 0).any()


def test_the_certificate_of_a_prepared_matrix_is_that_of_its_y_in_float32_too():
    rows, x, beta = (part.float() if isinstance(part, torch.Tensor) else part for part in problem(0.05, p=40, d=400))
    start, ready = random.normal(random.key(5), 400).float(), prepared(Matrix(rows), rows @ rows.mT)
    found = fista(Matrix(rows), x, beta, start, steps=60, tolerance=0.0, prepare=lambda: ready)
    residual = x - rows @ found.y
    gap = lasso.relative_gap(x, found.y, residual, (residual @ rows).abs().max(), beta)
    torch.testing.assert_close(found.gap, gap, rtol=1e-4, atol=0)
    exact = fista(Matrix(rows.double()), x.double(), beta, start.double(), steps=60, tolerance=0.0)
    torch.testing.assert_close(found.y.double(), exact.y, rtol=0, atol=1e-4 * float(exact.y.norm()))


@pytest.mark.parametrize("few", [True, False])
def test_what_a_step_takes_off_is_carried_along(few):
    rows, *_ = problem()
    ready, v = prepared(Matrix(rows), rows @ rows.mT), random.normal(random.key(5), D)
    w = v + 0.02 if few else -v
    cut = following(ready, rows @ v, v, 0.3, nothing(ready))[1]
    product, cut = following(ready, rows @ w, w, 0.1, cut)
    torch.testing.assert_close(product, rows @ lasso.soft(w, 0.1))
    torch.testing.assert_close(cut.product, rows @ (w / 0.1).clamp(-1, 1))


def test_a_matrix_too_large_is_not_copied():
    rows = torch.zeros(1, 1).expand(1 << 15, 1 << 15)  # of 8 GiB, were they there
    assert prepared(Matrix(rows), rows) is None


def test_fista_needs_fewer_steps_than_ista():
    rows, x, beta = problem(0.1)
    slow, fast = (solved(decoder, rows, x, beta, steps=20_000, tolerance=1e-8) for decoder in ("ista", "fista"))
    assert int(fast.steps) * 3 < int(slow.steps) < 20_000


def test_a_working_set_smaller_than_the_columns_is_enough():
    """One solve never gathers all columns, and still the gap is checked on all of them."""
    rows, x, beta = problem(0.3, p=20, d=400)
    widths = []

    class Watched(Matrix):
        def columns(self, index):
            widths.append(len(index))
            return super().columns(index)

    solution = fista(Watched(rows), x, beta, torch.zeros(400), steps=4000, tolerance=1e-12)
    assert max(widths) <= 2 * 20
    assert float((rows.mT @ (x - rows @ solution.y)).abs().max()) <= beta * (1 + 1e-5)


def test_the_gap_in_closed_form():
    """One row, one column, S = 1, x = 2, beta = 1, y = 1/2: P = 13/8; the dual point is 1, D = 2 - 1/2."""
    one = torch.ones(1)
    gap = lasso.relative_gap(2 * one, 0.5 * one, 1.5 * one, torch.tensor(1.5), 1.0)
    torch.testing.assert_close(gap, torch.tensor((13 / 8 - 3 / 2) / (13 / 8)))


@pytest.mark.parametrize("steps", [1, 3, 10, 50])
@pytest.mark.parametrize("decoder", ["ista", "fista"])
def test_the_gap_bounds_the_distance_from_the_least_objective(decoder, steps):
    rows, x, beta = problem()
    least = objective(rows, x, beta, oracle(rows, x, beta))
    solution = solved(decoder, rows, x, beta, steps=steps, tolerance=0.0)
    reached = objective(rows, x, beta, solution.y)
    assert int(solution.steps) == steps
    assert 1e-9 < 1 - least / reached <= float(solution.gap)


@pytest.mark.parametrize("decoder", ["ista", "fista"])
def test_it_stops_at_the_tolerance_and_not_before(decoder):
    rows, x, beta = problem()
    stopped = solved(decoder, rows, x, beta, tolerance=1e-3)
    assert float(stopped.gap) <= 1e-3
    assert float(solved(decoder, rows, x, beta, tolerance=0.0, steps=int(stopped.steps) // 2).gap) > 1e-3


def test_from_the_minimiser_no_step_is_taken():
    rows, x, beta = problem()
    first = solved("fista", rows, x, beta, tolerance=1e-9)
    again = solved("fista", rows, x, beta, tolerance=1e-9, start=first.y)
    assert int(again.steps) == 0
    assert torch.equal(again.y, first.y)


@pytest.mark.parametrize("decoder", ["ista", "fista"])
def test_where_nothing_correlates_more_than_beta_zero_is_the_minimiser(decoder):
    rows, x, _ = problem()
    largest = float((rows.mT @ x).abs().max())
    dead = solved(decoder, rows, x, largest * 1.0001, start=torch.ones(D))
    assert not dead.y.any()
    torch.testing.assert_close(float(dead.correlation), largest)
    assert solved(decoder, rows, x, largest * 0.9999, tolerance=0.1).y.any()  # the gap at 0 is smaller than that
    assert not solved(decoder, rows, torch.zeros(P), 1.0, start=torch.ones(D)).y.any()


def test_in_float32_many_steps_too_many_do_no_harm():
    rows, x, beta = (part.float() if isinstance(part, torch.Tensor) else part for part in problem(0.1, p=40, d=400))
    solution = fista(Matrix(rows), x, beta, torch.zeros(400, dtype=torch.float32), steps=2000, tolerance=0.0)
    assert abs(float(solution.gap)) < 1e-5


def test_an_x_that_is_not_finite_ends_the_solve():
    rows, x, beta = problem()
    for decoder in ("ista", "fista"):
        assert not torch.isfinite(solved(decoder, rows, x * torch.nan, beta, start=torch.ones(D)).gap)


@pytest.mark.parametrize(("p", "d"), [(1, 1), (1, 30), (6, 27), (30, 600), (50, 60)])
def test_the_squared_norm(p, d):
    sketch = gaussian(p, d, random.key(2), orthonormal=False)
    exact = float(torch.linalg.matrix_norm(sketch.rows, 2)) ** 2
    assert 0.999 * exact <= lasso.squared_norm(sketch, d) <= exact * (1 + 1e-9)
