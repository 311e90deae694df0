"""Law: FedAvg, FedProx and the sketch equal loops of some ten lines of plain torch."""

import pytest
import torch
from catalogue import Tiny, network, shards

from fedsep import algorithms, random, servers
from fedsep.core import FedSepError
from fedsep.operators import dct, gaussian
from fedsep.rates import default_period
from fedsep.testing import play
from fedsep.testing.draws import context
from fedsep.testing.play import everybody

ROUNDS, STEPS, SIZE, LR = 3, 5, 4, 0.3


def batches(part, ctx):
    """What plain code would do with the same permutations."""
    orders = [
        random.permutation(random.fold(random.fold(ctx.key, 1), epoch), part.train.size) for epoch in range(STEPS)
    ]
    chunks = [chunk for order in orders for chunk in order.split(SIZE)]
    return [(part.train.x[chunk], part.train.y[chunk]) for chunk in chunks[:STEPS]]


def loss(y, x, targets):
    hidden = torch.tanh(x @ y["0.weight"].T + y["0.bias"])
    return torch.nn.CrossEntropyLoss()(hidden @ y["1.weight"].T + y["1.bias"], targets)


def local(server, part, ctx, mu=0.0):
    y = {name: value.clone().requires_grad_() for name, value in server.items()}
    for x, targets in batches(part, ctx):
        total = loss(y, x, targets) + mu / 2 * sum(((y[n] - server[n]) ** 2).sum() for n in y)
        gradients = torch.autograd.grad(total, list(y.values()))
        y = {n: (y[n] - LR * g).detach().requires_grad_() for n, g in zip(y, gradients, strict=True)}
    return {n: y[n].detach() - server[n] for n in y}


def after(algorithm):
    parts = shards(network)
    played = play(algorithm, network.init(), parts, everybody(len(parts), ROUNDS), seed=4)
    return algorithm.model(played.states[-1])


def averaged(mu=0.0):
    server, parts = network.init(), shards(network)
    count = sum(part.train.size for part in parts)
    for number in range(ROUNDS):
        changes = [local(server, part, context(number, client=c, seed=4), mu) for c, part in enumerate(parts)]
        shares = [part.train.size / count for part in parts]
        server = {n: server[n] + sum(w * dy[n] for w, dy in zip(shares, changes, strict=True)) for n in server}
    return server


def test_fedavg_equals_a_loop_in_plain_torch():
    mine = after(algorithms.fedavg(network, lr=LR, steps=STEPS, batch_size=SIZE))
    torch.testing.assert_close(mine, averaged(), rtol=1e-10, atol=1e-12)


def test_fedprox_equals_a_loop_in_plain_torch():
    mine = after(algorithms.fedprox(network, mu=0.7, lr=LR, steps=STEPS, batch_size=SIZE))
    torch.testing.assert_close(mine, averaged(mu=0.7), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_the_redrawn_sketch_equals_a_loop_over_its_projections(momentum):
    """With orthonormal rows: theta <- theta + eta_g S^T v, v <- momentum v + S mean(dy); both new in every period."""
    p, period, rate, parts = 6, 2, 1.5, shards(network)
    server, names = network.init(), list(network.init())
    for number in range(ROUNDS):
        key = random.fold(random.fold(random.key(9), p), number // period)
        sketch = gaussian(p, network.d, key).rmv(torch.eye(p))
        changes = [local(server, part, context(number, client=c, seed=4)) for c, part in enumerate(parts)]
        mean = sum(torch.cat([dy[n].reshape(-1) for n in names]) for dy in changes) / len(parts)
        velocity = sketch @ mean + (momentum * velocity if number % period else 0.0)  # noqa: F821 - from the round before
        pieces = (rate * sketch.T @ velocity).split([server[n].numel() for n in names])
        server = {n: server[n] + piece.reshape(server[n].shape) for n, piece in zip(names, pieces, strict=True)}
    mine = after(
        algorithms.fedsep_linear(
            network, p=p, period=period, operator=gaussian, lr=LR, steps=STEPS, batch_size=SIZE, seed=9,
            **({"server": servers.sgd(lr=rate, momentum=momentum)} if momentum else {"server_lr": rate}),
        )
    )  # fmt: skip
    torch.testing.assert_close(mine, server, rtol=1e-9, atol=1e-11)


def test_the_default_rate_of_the_sketch_is_d_over_p_and_never_above_its_limit():
    """min(d / p, 6 sqrt(d / p)), times c = d / p where the rows are as drawn."""
    wide = Tiny(hidden=400)
    for task, p, rate in ((network, 6, 27 / 6), (network, 27, 1.0), (wide, 20, 6 * (wide.d / 20) ** 0.5)):
        made = algorithms.fedsep_linear(task, p=p)
        assert made.server.rule["omega"].lr == pytest.approx(rate)
        drawn = algorithms.fedsep_linear(task, p=p, operator=gaussian, orthonormal=False)
        assert drawn.server.rule["omega"].lr == pytest.approx(rate * task.d / p)


def test_the_sketch_is_made_without_a_factorisation_unless_the_gaussian_is_named(monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("a factorisation")

    for name in ("cholesky", "qr", "svd", "solve", "inv"):
        monkeypatch.setattr(torch.linalg, name, forbidden)
    method = algorithms.fedsep_linear(network, p=5, period=1, lr=LR, steps=STEPS, batch_size=SIZE)
    assert method.codec.operator is dct
    after(method)
    with pytest.raises(AssertionError, match="a factorisation"):
        after(algorithms.fedsep_linear(network, p=5, period=1, operator=gaussian, lr=LR, steps=STEPS, batch_size=SIZE))


def test_a_rate_of_the_sketch_that_is_likely_unstable_is_warned_of():
    with pytest.warns(UserWarning, match=r"fedsep_linear: server_lr=50\.0 is likely unstable: above 14\.8"):
        algorithms.fedsep_linear(network, p=6, server_lr=50.0)
    with pytest.raises(FedSepError, match="give server or server_lr, not both"):
        algorithms.fedsep_linear(network, p=6, server_lr=1.0, server=servers.sgd())
    with pytest.raises(FedSepError, match=r"p must be at most d = 27.*got 28"):
        algorithms.fedsep_linear(network, p=28)


def test_a_period_left_to_the_method_is_shorter_for_a_smaller_sketch():
    assert [default_period(p, 24_234) for p in (125, 250, 500, 2000)] == [2, 3, 5, 10]
