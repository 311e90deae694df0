"""The closed forms of the beds against derivatives, enumeration, and the library's own decode and encode."""

from dataclasses import replace

import pytest
import torch

from fedsep.core import Ctx, Decoded, Shard
from fedsep.random import key
from fedsep.theory.direct import encoded
from fedsep.theory.logistic import logistic
from fedsep.theory.moments import moments, reuse_bias, series
from fedsep.theory.quadratic import Noise, QuadraticTask, quadratic
from fedsep.theory.settings import Settings, method


def test_h_and_its_derivatives_are_those_of_the_decoded_loss():
    bed = quadratic(3, clients=3)

    def value(x):
        losses = []
        for m in range(3):
            y = torch.linalg.solve(bed.hessian[m], bed.cross[m] @ x + bed.shift[m])
            losses.append(0.5 * (bed.root[m] @ y - bed.target[m]).square().sum())
        return torch.stack(losses).mean()

    torch.testing.assert_close(bed.value(bed.start[None])[0], value(bed.start))
    torch.testing.assert_close(bed.gradient(bed.start[None])[0], torch.func.grad(value)(bed.start))
    torch.testing.assert_close(bed.curvature, torch.func.jacrev(torch.func.grad(value))(bed.start))
    assert bed.lipschitz == pytest.approx(float(torch.linalg.matrix_norm(bed.curvature, 2)))
    assert torch.func.grad(value)(bed.minimiser()).norm() < 1e-12
    assert bed.gap() == pytest.approx(float(value(bed.start) - value(bed.minimiser())))
    assert bed.mu == pytest.approx(0.25)
    assert (
        max(float(torch.linalg.matrix_norm(part, 2).max()) for part in (bed.hessian, bed.cross, bed.root)) < 1 + 1e-12
    )


def test_the_library_decodes_and_encodes_the_bed_as_the_closed_forms_say():
    bed = quadratic(1, clients=2)
    settings = Settings(terms=400, decode_steps=400, decode_lr=0.9)
    algorithm = method(bed, settings, 1)
    for m in range(2):
        shard, ctx = Shard(bed.samples(m, 1, 1, key(0), centred=True)), Ctx(0, 1.0, key(0))
        x = {"x": bed.start[None]}
        start, _ = algorithm.codec.decode(x, (), shard, ctx)
        torch.testing.assert_close(start.y["y"], bed.solution(bed.start[None])[m])
        task = QuadraticTask(bed, 1)
        slope = torch.func.grad(lambda y, task=task, shard=shard: task.loss({"y": y}, shard.train.all()))(start.y["y"])
        torch.testing.assert_close(slope, bed.slopes(bed.solution(bed.start[None]))[m])
        sent, _, _ = algorithm.codec.encode(start, {"y": start.y["y"] + slope}, x, (), shard, ctx)
        torch.testing.assert_close(sent["x"][0], bed.jacobian[m].mT @ slope[0])


def test_examples_have_the_noise_that_is_declared_and_copies_have_their_own():
    bed = quadratic(0, clients=1, noise=Noise(0.3, 0.2, 0.1, 0.4))
    d, p = bed.sizes
    samples = bed.samples(0, 20000, 2, key(1))
    hessian, cross, shift, root = samples.x.split([d * d, d * p, d, d * d], -1)
    off = hessian.unflatten(-1, (d, d)) - bed.hessian[0]
    torch.testing.assert_close(off, off.mT)
    assert float(off[..., 0, 1].std()) == pytest.approx(0.3, rel=0.03)
    assert float(off[..., 0, 0].std()) == pytest.approx(0.3 * 2**0.5, rel=0.03)
    assert float((cross - bed.cross[0].reshape(-1)).std()) == pytest.approx(0.2, rel=0.03)
    assert float((shift - bed.shift[0]).std()) == pytest.approx(0.1, rel=0.03)
    assert float((samples.y - bed.target[0]).std()) == pytest.approx(0.4, rel=0.03)
    assert float((root - bed.root[0].reshape(-1)).abs().max()) == 0
    assert abs(float(torch.corrcoef(torch.stack([off[:, 0, 0, 1], off[:, 1, 0, 1]]))[0, 1])) < 0.03
    centred = bed.samples(0, 10, 2, key(1), centred=True)
    torch.testing.assert_close(centred.x.mean(0)[0, : d * d].reshape(d, d), bed.hessian[0])


def test_moments_are_those_of_independent_scalars():
    """With d = p = 1 the factors are numbers, and E[s²] of s = tau (1 + r_1 + r_1 r_2 + ...) can be written out."""
    bed = quadratic(0, clients=1, d=1, p=1, mu=0.5, noise=Noise(hessian=0.2, cross=0.3))
    settings = Settings(terms=2, tau=0.7, encode_batch=3)
    h, a = float(bed.hessian[0, 0, 0]), float(bed.cross[0, 0, 0])
    r, v = 1 - 0.7 * h, 0.7**2 * 2 * 0.04 / 3  # mean and variance of a factor; the diagonal has twice the variance
    r2 = r**2 + v
    # s = 1 + r1 + r1 r2: squares 1 + r1² + r1² r2², twice the products r1 + r1 r2 + r1² r2
    second = 0.49 * (1 + r2 + r2**2 + 2 * (r + r**2 + r2 * r))
    first = 0.7 * (1 + r + r**2)
    law = moments(bed, 0, settings)
    assert float(law.mean) == pytest.approx(a * first)
    assert float(law.spread) == pytest.approx((a**2 + 0.09 / 3) * second - (a * first) ** 2)
    # one minibatch in all factors: the extra mean is tau * E[(r + n)² − r²] = tau * v to second order, exactly so here
    assert float(reuse_bias(bed, 0, settings)) / 3 == pytest.approx(a * 0.7 * v)


def test_mean_of_the_series_is_the_library_s_without_noise():
    bed, settings = quadratic(2, clients=1), Settings(terms=5)
    v = torch.tensor([1.0, -2.0, 0.5, 0.3])
    got = encoded(bed, 0, settings, torch.zeros(4), v, bed.start, 1, 0)[0]
    torch.testing.assert_close(got, bed.cross[0].mT @ series(bed.hessian[0], settings) @ v)
    assert float((got - bed.jacobian[0].mT @ v).norm()) > 1e-3
    torch.testing.assert_close(moments(bed, 0, settings).mean @ v, got)
    assert float(moments(bed, 0, settings).spread.abs().max()) < 1e-12


def test_every_draw_has_minibatches_of_its_own():
    bed = quadratic(0, clients=1, noise=Noise(hessian=0.1))
    got = encoded(bed, 0, Settings(encode_batch=1), torch.zeros(4), torch.ones(4), bed.start, 50, 0)
    assert len({tuple(row.tolist()) for row in got}) == 50
    same = encoded(bed, 0, Settings(encode_batch=1), torch.zeros(4), torch.ones(4), bed.start, 50, 0)
    torch.testing.assert_close(got, same, rtol=0, atol=0)


def test_logistic_bed_is_smooth_and_convex_as_declared_and_decodes_to_where_it_is_tilted():
    bed = logistic(1, kappa=8)
    x_of, y = bed.tilted_to, torch.tensor([0.3, -0.8, 1.2])
    batch = bed.shard.train.all()
    hessian = torch.func.jacrev(torch.func.grad(lambda at: bed.inner({"x": x_of(y)}, {"y": at}, batch)))(y)
    torch.testing.assert_close(bed.hessian(y), hessian)
    slope = torch.func.grad(lambda at: bed.inner({"x": x_of(y)}, {"y": at}, batch))(y)
    assert float(slope.norm()) < 1e-12
    for at in (y, 10 * y, torch.zeros(3)):
        values = torch.linalg.eigvalsh(bed.hessian(at))
        assert float(values.min()) >= 1 / 8 - 1e-12
        assert float(values.max()) <= 1 + 1e-12
    step = 1e-6 * torch.tensor([1.0, 0.5, -0.3])
    moved = (x_of(y + step) - x_of(y)).norm()
    torch.testing.assert_close(bed.jacobian(y) @ (x_of(y + step) - x_of(y)), step, rtol=1e-4, atol=0)
    change = bed.jacobian(y + step).mT @ bed.slope(y + step) - bed.jacobian(y).mT @ bed.slope(y)
    assert float(change.norm() / moved) <= bed.bend(y) * (1 + 1e-4) <= bed.lbar


def test_the_learning_task_keeps_the_task_s_law():
    bed = quadratic(0, clients=1, noise=Noise(target=0.1))
    task, batch = QuadraticTask(bed, 3), bed.samples(0, 4, 3, key(0)).all()
    y = {"y": torch.ones(3, 4)}
    torch.testing.assert_close(task.loss(y, batch), task.criterion(task.predict(y, batch.x), batch.y))


def test_replicates_do_not_touch_one_another():
    bed, settings = quadratic(0, clients=1, noise=Noise(0.1, 0.1, 0.1, 0.1)), Settings(batch=2, encode_batch=2)
    samples = bed.samples(0, 40, 2, key(0))
    alone = samples._replace(x=samples.x[:, :1], y=samples.y[:, :1])
    results = []
    for copies, data in ((2, samples), (1, alone)):
        codec = method(bed, replace(settings, terms=3), copies).codec
        x, y = {"x": bed.start.expand(copies, -1)}, {"y": torch.zeros(copies, 4)}
        start = Decoded(y, residual=torch.zeros(()))
        sent = codec.encode(start, {"y": y["y"] + 1}, x, (), Shard(data), Ctx(0, 1.0, key(5)))[0]
        results.append(sent["x"][0])
    torch.testing.assert_close(*results)
