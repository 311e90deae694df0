"""SCAFFOLD equals a loop in plain torch; it is FedAvg where clients are alike; c is the mean of all c_m at any time."""

import pytest
import torch
from catalogue import network, shard, shards
from hypothesis import given, settings
from hypothesis import strategies as st
from laws.test_reference_loops import batches, loss

from fedsep import algorithms, data, models, tasks, tree
from fedsep.core import FedSepError
from fedsep.learners.sgd import sgd
from fedsep.testing import play
from fedsep.testing.draws import context
from fedsep.testing.play import everybody
from fedsep.train import fit

LOCAL = {"lr": 0.3, "steps": 5, "batch_size": 4}
CLIENTS = 4
attendances = st.lists(st.dictionaries(st.integers(0, CLIENTS - 1), st.booleans()), min_size=1, max_size=6)


def final(algorithm, parts, attendance):
    return algorithm.model(play(algorithm, network.init(), parts, attendance, seed=4).states[-1])


def test_it_equals_a_loop_in_plain_torch():
    parts, lr = shards(network, CLIENTS), LOCAL["lr"]
    server = network.init()
    c, own = tree.zeros_like(server), [tree.zeros_like(server) for _ in parts]
    attendance = [(0, 2), (1, 2, 3), (0, 1, 2, 3)]
    for number, present in enumerate(attendance):
        changes, before = [], c
        for m in present:
            y = {n: p.clone().requires_grad_() for n, p in server.items()}
            for x, targets in batches(parts[m], context(number, client=m, seed=4)):
                g = dict(zip(y, torch.autograd.grad(loss(y, x, targets), list(y.values())), strict=True))
                y = {n: (y[n] - lr * (g[n] - own[m][n] + before[n])).detach().requires_grad_() for n in y}
            new = {n: own[m][n] - before[n] + (server[n] - y[n].detach()) / (5 * lr) for n in y}
            changes.append({n: y[n].detach() - server[n] for n in y})
            c = {n: c[n] + (new[n] - own[m][n]) / CLIENTS for n in c}
            own[m] = new
        server = {n: server[n] + sum(dy[n] for dy in changes) / len(changes) for n in server}
    mine = algorithms.scaffold(network, clients=CLIENTS, **LOCAL)
    torch.testing.assert_close(
        final(mine, parts, [dict.fromkeys(present, True) for present in attendance]), server, rtol=1e-9, atol=1e-11
    )


def test_of_identical_clients_it_is_fedavg():
    parts, full = [shard(network, 1)] * 3, {**LOCAL, "batch_size": None}
    mine = final(algorithms.scaffold(network, clients=3, **full), parts, everybody(3, 4))
    plain = final(algorithms.fedavg(network, **full), parts, everybody(3, 4))
    torch.testing.assert_close(mine, plain, rtol=1e-10, atol=1e-12)
    parts = shards(network, 3)
    mine = final(algorithms.scaffold(network, clients=3, **full), parts, everybody(3, 4))
    plain = final(algorithms.fedavg(network, weighting="uniform", **full), parts, everybody(3, 4))
    assert not torch.allclose(mine["0.weight"], plain["0.weight"], rtol=1e-3)


@settings(max_examples=20)
@given(attendance=attendances)
def test_c_is_the_mean_of_all_clients_own_under_drops(attendance):
    parts = shards(network, CLIENTS)
    played = play(algorithms.scaffold(network, clients=CLIENTS, **LOCAL), network.init(), parts, attendance)
    own = {m: tree.zeros_like(network.init()) for m in range(CLIENTS)}
    for seats, state in zip(played.seats, played.states[1:], strict=True):
        own |= {m: seat.memory.codec for m, seat in seats.items() if seat.accepted}
        mean = {n: sum(c[n] for c in own.values()) / CLIENTS for n in state.x["c"]}
        torch.testing.assert_close(state.x["c"], mean, rtol=1e-10, atol=1e-12)


def test_server_momentum_moves_the_model_and_leaves_c_alone():
    from fedsep import servers

    parts = shards(network, 2)
    plain, fast = (
        play(algorithms.scaffold(network, clients=2, server=rule, **LOCAL), network.init(), parts, everybody(2, 1))
        for rule in (None, servers.sgd(lr=2.0, momentum=0.9))
    )
    assert tree.leaves(plain.states[1].x["c"])[0].norm() > 0
    torch.testing.assert_close(plain.states[1].x["c"], fast.states[1].x["c"], rtol=0, atol=0)
    first, slow, quick = (state.x["model"] for state in (plain.states[0], plain.states[1], fast.states[1]))
    torch.testing.assert_close(tree.sub(quick, first), tree.scale(tree.sub(slow, first), 2.0), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("count", [{"steps": 3}, {"epochs": 2}])
def test_a_learner_reaches_as_far_as_a_constant_gradient_carries_it(momentum, count):
    class Slope:
        def loss(self, params, batch):
            return 2.0 * params["w"].sum()

    learner, part = sgd(Slope(), lr=0.2, momentum=momentum, batch_size=4, **count), shard(network, 0, 9)
    from fedsep.core import Decoded

    y, _ = learner.learn(Decoded({"w": torch.zeros(1)}), part, context(0))
    torch.testing.assert_close(y["w"], torch.tensor([-2.0 * learner.reach(part, context(0))]))


def test_more_replies_than_clients_and_another_number_than_the_federations_are_refused():
    with pytest.raises(FedSepError, match=r"clients must be .* \(got 1, and 2 replied\)"):
        final(algorithms.scaffold(network, clients=1, **LOCAL), shards(network, 2), everybody(2, 1))
    federation = data.digits(clients=3)
    task = tasks.classification(models.logistic(federation.shape, federation.classes))
    with pytest.raises(FedSepError, match=r"clients must be the federation's, 3 \(the method was given 5\)"):
        fit(algorithms.scaffold(task, clients=5), task, federation, rounds=1)


def test_a_recipe_fills_in_the_number_of_clients():
    from fedsep.recipes import RecipeError, build, from_tree

    blocks = {"rounds": 1, "data": {"use": "fedsep.data.digits", "clients": 3}, "model": {"use": "fedsep.models.mlp"}}
    recipe = from_tree({**blocks, "methods": [{"use": "fedsep.algorithms.scaffold"}]}, "r.yaml")
    assert build(recipe, 0).algorithms["scaffold"].clients == 3
    recipe = from_tree({**blocks, "methods": [{"use": "fedsep.algorithms.scaffold", "clients": 7}]}, "r.yaml")
    with pytest.raises(RecipeError, match=r"clients must be the federation's, 3 \(the method was given 7\)"):
        build(recipe, 0)
