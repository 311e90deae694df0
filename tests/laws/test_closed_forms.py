"""Law: where decode and encode have a closed form, the general codec equals it."""

import pytest
import torch
from catalogue import linear, network, ridge, shard

from fedsep import algorithms, tree
from fedsep.testing.codecs import bench
from fedsep.testing.draws import context, random_like


@pytest.mark.parametrize("solver", [{"solver": "neumann", "terms": 60, "tau": 0.4}, {"solver": "cg", "terms": 20}])
def test_a_ridge_decode(solver):
    """y_x = theta_0 + (S^T S + rho)^-1 S^T (x - S theta_0), so J^T v = S (S^T S + rho)^-1 v."""
    g = ridge()
    codec = algorithms.fedsep_implicit(
        network, inner=g, initial=g.initial, start=g.start, serve=g.serve, decode_steps=60, decode_lr=0.4,
        tolerance=1e-12, **solver,
    ).codec  # fmt: skip
    at = bench(codec, network.init(), shard(network))
    start = at.decode(at.x)
    torch.testing.assert_close(start.y, g.serve(at.x), rtol=1e-9, atol=1e-11)
    v = random_like(start.y, 9)
    matrix = g.sketch.mT @ g.sketch + g.rho * torch.eye(network.d)
    expected = g.sketch @ torch.linalg.solve(matrix, tree.ravel(v)[0])
    got = at.encode(start, tree.add(start.y, v))["sketched"]
    torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-11)


STRENGTH = 3.0


def features(part):
    batch = part.train.all()
    return torch.cat([batch.x, torch.ones(batch.x.shape[0], 1)], 1), batch.y


def joined(params):
    """Weight and bias of the linear model as one matrix, a row an output."""
    return torch.cat([params["0.weight"], params["0.bias"][:, None]], 1)


@pytest.mark.parametrize("options", [
    {"solver": "cg", "curvature": "gauss_newton"},
    {"solver": "cg", "curvature": "hessian"},
    {"solver": "neumann", "curvature": "gauss_newton", "tau": 0.12, "terms": 60},
    {"solver": "neumann", "curvature": "hessian", "tau": 0.12, "terms": 60},
], ids=lambda options: " ".join(map(str, options.values())))  # fmt: skip
def test_personal_models_of_a_linear_model_with_squared_loss(options):
    """The local Hessian H is constant: y_x = (H + s)^-1 (X^T t + s x) and J = s (H + s)^-1, s the strength."""
    codec = algorithms.fedsep_personal(
        linear, strength=STRENGTH, decode_steps=60, decode_lr=0.12, decode_batch_size=None, encode_batch_size=None,
        tolerance=1e-12, **{"terms": 20, **options},
    ).codec  # fmt: skip
    part = shard(linear)
    at = bench(codec, linear.init(), part)
    start, (a, targets) = at.decode(at.x), features(part)
    system = a.mT @ a / len(a) + STRENGTH * torch.eye(a.shape[1])
    decoded = torch.linalg.solve(system, a.mT @ targets / len(a) + STRENGTH * joined(at.x).mT).mT
    torch.testing.assert_close(joined(start.y), decoded, rtol=1e-9, atol=1e-11)

    v = random_like(start.y, 5)
    dx = at.encode(start, tree.add(start.y, v))
    torch.testing.assert_close(
        joined(dx), STRENGTH * torch.linalg.solve(system, joined(v).mT).mT, rtol=1e-8, atol=1e-10
    )


def test_personal_models_tend_to_fedavg_as_strength_grows():
    part, ctx, x = shard(network), context(1, seen=0), network.init()
    learner = {"lr": 0.2, "steps": 3, "batch_size": 4}
    plain = _reply(algorithms.fedavg(network, **learner), x, part, ctx)

    def distance(strength: float) -> float:
        personal = algorithms.fedsep_personal(network, strength=strength, decode_lr=0.5 / strength, **learner)
        return float(tree.norm(tree.sub(_reply(personal, x, part, ctx), plain)))

    far, near = distance(1e3), distance(1e5)
    assert near == pytest.approx(far / 100, rel=0.05)
    assert near < 1e-4 * float(tree.norm(plain))


def _reply(algorithm, x, part, ctx):
    state = algorithm.init(x)
    sent = algorithm.broadcast(state, ctx)
    return algorithm.update(sent, algorithm.enroll(sent, ctx), part, ctx)[0]
