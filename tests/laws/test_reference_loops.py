"""Law: FedAvg, FedProx and the sketch equal loops of some ten lines of plain torch."""

import torch
from catalogue import network, shards

from fedsep import algorithms, random
from fedsep.operators import gaussian
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


def test_the_redrawn_sketch_equals_a_loop_over_its_projections():
    """With orthonormal rows: theta <- theta + eta_g S^T S mean(dy), S new in every period."""
    p, period, rate, parts = 6, 2, 1.5, shards(network)
    server, names = network.init(), list(network.init())
    for number in range(ROUNDS):
        key = random.fold(random.fold(random.key(9), p), number // period)
        sketch = gaussian(p, network.d, key).rmv(torch.eye(p))
        changes = [local(server, part, context(number, client=c, seed=4)) for c, part in enumerate(parts)]
        mean = sum(torch.cat([dy[n].reshape(-1) for n in names]) for dy in changes) / len(parts)
        step = rate * sketch.T @ (sketch @ mean)
        pieces = step.split([server[n].numel() for n in names])
        server = {n: server[n] + piece.reshape(server[n].shape) for n, piece in zip(names, pieces, strict=True)}
    mine = after(
        algorithms.fedsep_linear(
            network, p=p, period=period, server_lr=rate, lr=LR, steps=STEPS, batch_size=SIZE, seed=9
        )
    )
    torch.testing.assert_close(mine, server, rtol=1e-9, atol=1e-11)
