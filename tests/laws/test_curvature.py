"""Law: negative curvature and divergence are found, and the message names a cure; Gauss-Newton is J^T B J."""

import pytest
import torch
from catalogue import Tiny, linear, network, shard

from fedsep import algorithms, tree
from fedsep.core import FedSepError
from fedsep.implicit import EncodeError, adjoint_product, gauss_newton_product, gradient_condition
from fedsep.testing.draws import context, random_like

CTX = context(1, seen=0)


def saddle(x, y, batch):
    """Curvature 2 along the first coordinate, -1 along the others."""
    flat, _ = tree.ravel(y)
    return 1.5 * flat[0].square() - 0.5 * flat.square().sum() + 0.0 * tree.ravel(x)[0].sum()


def _hessian(function):
    return torch.func.jacrev(torch.func.jacrev(function))


def round_of(algorithm, task=linear):
    state, part = algorithm.init(task.init()), shard(task)
    sent = algorithm.broadcast(state, CTX)
    return algorithm.update(sent, algorithm.enroll(sent, CTX), part, CTX)


@pytest.mark.parametrize("options", [{"solver": "cg"}, {"solver": "neumann", "tau": 0.1}])
def test_negative_curvature_is_refused_with_its_cures(options):
    algorithm = algorithms.fedsep_implicit(linear, inner=saddle, decode_steps=0, **options)
    with pytest.raises(EncodeError, match="negative curvature") as caught:
        round_of(algorithm)
    for cure in ("damping", "gauss_newton", "decode steps"):
        assert cure in str(caught.value)


@pytest.mark.parametrize("solver", ["cg", "neumann"])
def test_damping_cures_it(solver):
    algorithm = algorithms.fedsep_implicit(linear, inner=saddle, decode_steps=0, solver=solver, damping=1.5, tau=0.2)
    reply, _, info = round_of(algorithm)
    assert all(torch.isfinite(part).all() for part in reply.values())
    assert float(info["encode_residual"]) < 1


def test_a_series_that_diverges_names_tau():
    algorithm = algorithms.fedsep_personal(
        linear, strength=1.0, solver="neumann", terms=30, tau=5.0, curvature="hessian"
    )
    with pytest.raises(EncodeError, match=r"tau=5\.0 is not below 2 / L.*smaller tau, or solver='cg'"):
        round_of(algorithm)


@pytest.mark.parametrize("tau", [1e30, 1e300])
def test_a_series_that_overflows_names_tau(tau):
    algorithm = algorithms.fedsep_personal(
        linear, strength=1.0, solver="neumann", terms=30, tau=tau, curvature="hessian"
    )
    with pytest.raises(EncodeError, match="tau"):
        round_of(algorithm)


@pytest.mark.parametrize("options", [
    {"decode_lr": 3.0, "decode_steps": 5, "decode_batch_size": None},
    {"decode_lr": 30.0, "decode_steps": 5},
    {"decode_lr": 1e200, "decode_steps": 5},
    {"decode_lr": 1.0, "decode_steps": 30},
])  # fmt: skip
def test_a_decode_that_diverges_names_its_rate(options):
    algorithm = algorithms.fedsep_personal(linear, strength=1.0, **options)
    with pytest.raises(FedSepError, match=r"decode diverges.*decode_lr=.* choose it smaller"):
        round_of(algorithm)


def test_a_decode_that_converges_is_let_be():
    round_of(algorithms.fedsep_personal(linear, strength=1.0, decode_lr=0.2, decode_steps=30, decode_batch_size=None))


@pytest.mark.parametrize("solver", ["cg", "neumann"])
def test_a_change_that_is_no_number_is_not_called_negative_curvature(solver):
    algorithm = algorithms.fedsep_personal(linear, strength=1.0, solver=solver, decode_steps=0)
    x = linear.init()
    start, _ = algorithm.codec.decode(x, (), shard(linear), CTX)
    y = tree.scale(start.y, float("nan"))
    with pytest.raises(EncodeError, match=r"not a finite number.*smaller lr"):
        algorithm.codec.encode(start, y, x, (), shard(linear), CTX)


def test_a_condition_that_is_no_gradient_may_turn_a_vector_away():
    """F = A y - x, A = [[1, 4], [0, 1]]: <u, A u> < 0 for some u, and the series converges: its eigenvalues are 1."""
    a = torch.tensor([[1.0, 4.0], [0.0, 1.0]])
    codec = algorithms.fedsep_implicit(
        linear, optimality=lambda x, y, batch: {"y": a @ y["y"] - x["y"]},
        decode_steps=60, decode_lr=0.5, terms=60, tau=0.5,
    ).codec  # fmt: skip
    x, v = {"y": torch.tensor([1.0, -2.0])}, torch.tensor([1.0, -1.0])
    assert v @ a @ v < 0
    start, _ = codec.decode(x, {"y": torch.zeros(2)}, shard(linear), CTX)
    torch.testing.assert_close(start.y["y"], torch.linalg.solve(a, x["y"]), rtol=1e-8, atol=1e-8)
    dx, _, _ = codec.encode(start, {"y": start.y["y"] + v}, x, (), shard(linear), CTX)
    torch.testing.assert_close(dx["y"], torch.linalg.solve(a.mT, v), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("task", [network, Tiny(squared=True)], ids=["cross-entropy", "squared"])
def test_a_gauss_newton_product_is_the_explicit_one_and_positive(task: Tiny):
    strength, batch = 0.05, shard(task, 0, 8).train.all()
    inner = algorithms.fedsep_personal(task, strength=strength).codec.inner
    x, y = task.init(), random_like(task.init(), 3, 1.5)
    flat, unravel = tree.ravel(y)
    units = torch.eye(flat.numel())
    product = gauss_newton_product(inner, x, y, batch)
    got = torch.stack([tree.ravel(product(unravel(unit)))[0] for unit in units])

    jacobian = torch.func.jacrev(lambda z: task.predict(unravel(z), batch.x))(flat).reshape(-1, flat.numel())
    outputs = task.predict(y, batch.x)
    bend = _hessian(lambda out: task.criterion(out.reshape(outputs.shape), batch.y))(outputs.reshape(-1))
    torch.testing.assert_close(got, jacobian.mT @ bend @ jacobian + strength * units, rtol=1e-9, atol=1e-12)
    assert torch.linalg.eigvalsh(got).min() >= strength - 1e-9

    hessian = adjoint_product(gradient_condition(inner), x, y, batch)
    full = torch.stack([tree.ravel(hessian(unravel(unit)))[0] for unit in units])
    torch.testing.assert_close(full, _hessian(lambda z: inner(x, unravel(z), batch))(flat), rtol=1e-9, atol=1e-10)
    assert torch.linalg.eigvalsh(full).min() < 0, "the point was chosen so that the Hessian itself is not positive"


def test_gauss_newton_needs_a_composite_and_cg_a_symmetric_system():
    with pytest.raises(FedSepError, match=r"gauss_newton.*outputs and objective"):
        algorithms.fedsep_implicit(linear, inner=saddle, curvature="gauss_newton")
    with pytest.raises(FedSepError, match=r"exactly one of inner.*optimality"):
        algorithms.fedsep_implicit(linear)
    with pytest.raises(FedSepError, match=r"solver='cg' needs a symmetric system"):
        algorithms.fedsep_implicit(linear, optimality=lambda x, y, batch: y, solver="cg")
