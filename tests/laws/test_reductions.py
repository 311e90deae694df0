"""Law: where a method's special feature is switched off, what is left is FedAvg; and FedAvg's own limits are SGD."""

import pytest
import torch
from catalogue import Tiny, network, shards

from fedsep import algorithms, operators, servers, tree, wires
from fedsep.core import Batch, Samples, Shard
from fedsep.testing import play
from fedsep.testing.play import everybody

LOCAL = {"lr": 0.2, "steps": 3, "batch_size": 4}


def model_after(algorithm, rounds: int, task: Tiny = network, parts: list[Shard] | None = None):
    parts = shards(task) if parts is None else parts
    played = play(algorithm, task.init(), parts, everybody(len(parts), rounds), cross=lambda payload: payload)
    return algorithm.model(played.states[-1])


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_fedprox_without_mu_is_fedavg_bit_for_bit():
    prox, plain = (
        model_after(m, 3) for m in (algorithms.fedprox(network, mu=0.0, **LOCAL), algorithms.fedavg(network, **LOCAL))
    )
    assert all(torch.equal(prox[name], plain[name]) for name in plain)
    held = model_after(algorithms.fedprox(network, mu=1.0, **LOCAL), 3)
    assert not torch.allclose(held["0.weight"], plain["0.weight"])


def test_a_square_orthonormal_sketch_that_is_never_redrawn_is_fedavg():
    sketched = algorithms.fedsep_linear(network, p=network.d, period="never", server_lr=1.0, **LOCAL)
    plain = algorithms.fedavg(network, weighting="uniform", **LOCAL)
    close(model_after(sketched, 4), model_after(plain, 4))


def test_a_square_orthonormal_sketch_that_is_redrawn_is_fedavg_too():
    sketched = algorithms.fedsep_linear(network, p=network.d, period=2, **LOCAL)  # the default rate is d / p = 1
    close(model_after(sketched, 5), model_after(algorithms.fedavg(network, weighting="uniform", **LOCAL), 5))


@pytest.mark.parametrize("downlink", [wires.Dense(), wires.topk(network.d)], ids=["dense", "all of the largest"])
@pytest.mark.parametrize("method", [algorithms.fedsep_quantised, algorithms.fedsep_linear])
def test_a_square_sketch_whose_changes_are_sent_whole_is_fedavg_too(method, downlink):
    sketched = method(network, p=network.d, period=2, uplink=wires.Dense(), downlink=downlink, **LOCAL)
    close(model_after(sketched, 5), model_after(algorithms.fedavg(network, weighting="uniform", **LOCAL), 5))


def test_a_square_sketch_as_drawn_is_fedavg_where_its_rate_is_one():
    """S^+ (S^+)^T dy is dy for an invertible S only if S is orthonormal; here it is (S^T S)^-1 dy: another metric."""
    sketched = algorithms.fedsep_linear(
        network, p=network.d, period="never", operator=operators.gaussian, orthonormal=False, server_lr=1e-3, **LOCAL
    )
    plain = algorithms.fedavg(network, weighting="uniform", server=servers.sgd(lr=1e-3), **LOCAL)
    assert not torch.allclose(model_after(sketched, 1)["0.weight"], model_after(plain, 1)["0.weight"], atol=1e-6)


def test_implicit_fedsep_with_g_of_the_distance_is_fedavg():
    """g = 1/2 |y - x|^2: decode is x, J is the identity."""

    def distance(x, y, batch):
        return 0.5 * tree.dot(tree.sub(y, x), tree.sub(y, x))

    implicit = algorithms.fedsep_implicit(
        network, inner=distance, decode_steps=1, decode_lr=1.0, terms=0, tau=1.0, **LOCAL
    )
    close(model_after(implicit, 3), model_after(algorithms.fedavg(network, weighting="uniform", **LOCAL), 3))


def test_one_client_is_plain_sgd():
    part, rounds, steps = shards(network, 3)[2], 3, 4
    params = [p.clone().requires_grad_() for p in network.init().values()]
    names = list(network.init())
    optimizer = torch.optim.SGD(params, lr=0.2)
    for _ in range(rounds * steps):
        optimizer.zero_grad()
        network.loss(dict(zip(names, params, strict=True)), part.train.all()).backward()
        optimizer.step()
    alone = model_after(algorithms.fedavg(network, lr=0.2, steps=steps, batch_size=None), rounds, parts=[part])
    close(alone, dict(zip(names, (p.detach() for p in params), strict=True)))


def descended(loss, rounds: int, lr: float):
    params = network.init()
    for _ in range(rounds):
        leaves = {name: part.clone().requires_grad_() for name, part in params.items()}
        parts = torch.autograd.grad(loss(leaves), list(leaves.values()))
        params = {name: params[name] - lr * part for name, part in zip(params, parts, strict=True)}
    return params


def test_one_full_batch_step_of_all_clients_is_gradient_descent_on_the_mean_loss():
    parts = shards(network)
    one = algorithms.fedavg(network, lr=0.3, steps=1, batch_size=None, weighting="uniform")
    mean = descended(lambda y: sum(network.loss(y, part.train.all()) for part in parts) / len(parts), 4, 0.3)
    close(model_after(one, 4), mean)


def test_weighted_by_samples_it_is_gradient_descent_on_the_pooled_loss():
    parts = shards(network)
    pooled = Samples(*(torch.cat([getattr(part.train, field) for part in parts]) for field in ("x", "y"))).all()
    assert isinstance(pooled, Batch)
    one = algorithms.fedavg(network, lr=0.3, steps=1, batch_size=None)
    close(model_after(one, 4), descended(lambda y: network.loss(y, pooled), 4, 0.3))


def test_one_local_step_of_rate_one_leaves_the_server_the_choice_of_the_rate():
    slow = algorithms.fedavg(network, lr=1.0, steps=1, batch_size=None, server=servers.sgd(lr=0.3), weighting="uniform")
    fast = algorithms.fedavg(network, lr=0.3, steps=1, batch_size=None, weighting="uniform")
    close(model_after(slow, 3), model_after(fast, 3))
