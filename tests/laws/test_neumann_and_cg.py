"""Law: the Neumann series errs by exactly (1 - tau mu)^(Q+1) along an eigenvector; CG is exact."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedsep import random
from fedsep.implicit import conjugate_gradient, neumann

MU = torch.tensor([0.1, 0.5, 1.0, 2.0, 3.0, 3.9], dtype=torch.float64)
TAU = 0.5  # below 2 / L, above 1 / L: the errors along the last two alternate in sign


def basis(seed: int, n: int) -> torch.Tensor:
    return torch.linalg.qr(random.normal(random.key(seed), n, n))[0]


def split(v: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"a": v[:2].reshape(2, 1), "b": v[2:]}


def joined(tree: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([tree["a"].reshape(-1), tree["b"]])


@pytest.mark.parametrize("place", range(len(MU)))
def test_the_error_of_the_series_falls_by_the_predicted_factor_per_term(place):
    q = basis(3, len(MU))
    hessian, mu, v = q @ torch.diag(MU) @ q.mT, MU[place], q[:, place]
    exact = v / mu
    for terms in (0, 1, 2, 5, 11):
        solution = neumann(lambda u, _: split(hessian @ joined(u)), split(v), terms=terms, step=TAU)
        error = (exact - joined(solution.value)) @ v * mu
        torch.testing.assert_close(error, (1 - TAU * mu) ** (terms + 1), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(solution.residual, (1 - TAU * mu).abs() ** terms, rtol=1e-6, atol=1e-12)


def test_the_series_uses_the_minibatches_in_their_order():
    seen = []

    def product(u, number):
        seen.append(number)
        return {"y": u["y"] * (1.0 + number)}

    solution = neumann(product, {"y": torch.ones(1)}, terms=3, step=0.25)
    assert seen == [0, 1, 2]
    terms = [1.0, 0.75, 0.75 * 0.5, 0.75 * 0.5 * 0.25]  # 1 - tau H_q: .75, .5, .25
    assert solution.value["y"].item() == pytest.approx(0.25 * sum(terms))


@given(seed=st.integers(0, 1000), n=st.integers(3, 9))
def test_cg_solves_a_positive_definite_system_in_as_many_steps_as_it_has_dimensions(seed, n):
    a = random.normal(random.key(seed), n, n)
    hessian = a @ a.mT + 0.5 * torch.eye(n)
    v = random.normal(random.fold(random.key(seed), 1), n)
    solution = conjugate_gradient(lambda u, _: split(hessian @ joined(u)), split(v), steps=3 * n, tolerance=1e-12)
    exact = torch.linalg.solve(hessian, v)
    torch.testing.assert_close(joined(solution.value), exact, rtol=1e-7, atol=1e-8)
    assert float(solution.residual) <= 1e-10


def test_cg_reports_its_residual_and_stops_at_the_tolerance():
    q = basis(5, 6)
    hessian, v = q @ torch.diag(MU) @ q.mT, torch.ones(6)
    calls = []

    def product(u, number):
        calls.append(number)
        return split(hessian @ joined(u))

    for steps, tolerance in ((2, 1e-12), (50, 0.3), (50, 1e-6)):
        calls.clear()
        solution = conjugate_gradient(product, split(v), steps=steps, tolerance=tolerance)
        left = v - hessian @ joined(solution.value)
        torch.testing.assert_close(solution.residual, left.norm() / v.norm(), rtol=1e-6, atol=1e-9)
        assert len(calls) == steps if steps == 2 else float(solution.residual) <= tolerance
        assert set(calls) == {0}


def test_nothing_is_solved_for_nothing():
    nothing = split(torch.zeros(6))
    for solution in (
        neumann(lambda u, _: u, nothing, terms=3, step=0.5),
        conjugate_gradient(lambda u, _: u, nothing, steps=3, tolerance=1e-6),
    ):
        assert not joined(solution.value).any()
        assert float(solution.residual) == 0


def test_cg_leaves_alone_what_a_singular_system_cannot_reach():
    hessian = torch.diag(torch.tensor([1.0, 2.0, 0.0, 0.0, 0.0, 0.0]))
    solution = conjugate_gradient(
        lambda u, _: split(hessian @ joined(u)), split(torch.eye(6)[4]), steps=5, tolerance=1e-9
    )
    assert not joined(solution.value).any()
    assert float(solution.residual) == 1.0
