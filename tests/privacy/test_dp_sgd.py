"""DP-SGD: clipped gradients of examples against a loop, its noise and minibatches, and what it costs."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter

import pytest
import torch
from catalogue import linear, network, shard
from torch.testing import assert_close
from train.toys import SETTINGS, Fleet, Task, run

from fedsep import algorithms, random, tree
from fedsep.core import Ctx, Decoded, FedSepError, Samples, Shard
from fedsep.plan import Plan
from fedsep.privacy import Rounds, central, dp_sgd, epsilon
from fedsep.privacy.noise import chosen
from fedsep.train import Checkpoint, Cohort, Evaluate, Stop

CTX = Ctx(0, 1.0, random.key(7))


def method(task=network, **options):
    return algorithms.fedavg(task, **{"weighting": "uniform", "steps": 1, "lr": 0.3, **options})


def privately(of=None, *, clip=0.5, noise=1e-13, batch_size=7, secret=1, **options):
    return dp_sgd(of or method(), clip=clip, noise=noise, batch_size=batch_size, secret=secret, **options)


def by_loop(task, part: Shard, steps: int, lr: float, clip: float, momentum: float = 0.0):
    """All examples in every minibatch, one after the other by plain autograd."""
    y, velocity = task.init(), tree.zeros_like(task.init())
    for _ in range(steps):
        total = tree.zeros_like(y)
        for i in range(part.train.size):
            leaves = {name: p.clone().requires_grad_() for name, p in y.items()}
            loss = task.loss(leaves, part.train.take(slice(i, i + 1)))
            gradient = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
            length = math.sqrt(sum(float((g**2).sum()) for g in gradient.values()))
            total = tree.add(total, gradient, min(1.0, clip / length) / part.train.size)
        velocity = tree.add(total, velocity, momentum)
        y = tree.add(y, velocity, -lr)
    return y


@pytest.mark.parametrize("clip", [0.05, 0.5, 100.0])
@pytest.mark.parametrize("task", [network, linear], ids=["network", "linear"])
def test_steps_are_those_of_a_loop_over_examples(task, clip):
    part = shard(task)
    learner = privately(method(task, steps=3, momentum=0.5), clip=clip).learner
    y, info = learner.learn(Decoded(task.init()), part, CTX)
    assert info == {}
    for name, wanted in by_loop(task, part, 3, 0.3, clip, 0.5).items():
        assert_close(y[name], wanted, rtol=1e-10, atol=1e-12)


def test_the_noise_of_a_step_has_the_promised_scale():
    task = dataclasses.replace(linear, hidden=400)
    part, noise, clip = shard(task), 2.0, 0.5
    quiet, loud = (privately(method(task), noise=z, clip=clip).learner for z in (1e-13, noise))
    steps = [each.learn(Decoded(task.init()), part, CTX)[0] for each in (quiet, loud)]
    apart = tree.ravel(tree.sub(*steps))[0]
    assert float(apart.std()) == pytest.approx(0.3 * noise * clip / 7, rel=5 / math.sqrt(2 * len(apart)))


def test_minibatches_are_draws_of_each_example_on_its_own():
    secret, rounds, size = bytes(32), 2000, 10
    drawn = [chosen(secret, "batch", n, size, 0.3).tolist() for n in range(rounds)]
    counts = Counter(i for each in drawn for i in each)
    assert all(abs(counts[i] - 0.3 * rounds) < 5 * math.sqrt(rounds * 0.21) for i in range(size))
    sizes = torch.tensor([len(each) for each in drawn], dtype=torch.float64)
    assert abs(float(sizes.var()) - 2.1) < 0.4


def test_an_empty_minibatch_is_noise_alone_and_every_message_has_its_own():
    task, part = network, shard(network, size=50)
    learner = privately(batch_size=1, noise=1.0, clip=1.0, secret=None).learner
    nothing = learner._total(task.init(), part.train.take(torch.tensor([], dtype=torch.int64)))
    assert all(torch.equal(nothing[name], torch.zeros_like(own)) for name, own in task.init().items())
    one, two = (learner.learn(Decoded(task.init()), part, CTX)[0] for _ in range(2))
    assert not torch.equal(one["0.weight"], two["0.weight"])
    given = privately(batch_size=1, noise=1.0).learner
    first, again = (given.learn(Decoded(task.init()), part, CTX)[0] for _ in range(2))
    other, _ = given.learn(Decoded(task.init()), part, CTX._replace(key=random.key(8)))
    assert torch.equal(first["0.weight"], again["0.weight"])
    assert not torch.equal(first["0.weight"], other["0.weight"])


@dataclasses.dataclass(frozen=True)
class Unequal(Fleet):
    """Clients of six to nine examples."""

    def shard(self, client: int) -> Shard:
        base = super().shard(client)
        more = client % 4
        x, y = (torch.cat([part, part[:more]]) for part in base.train[:2])
        return base.with_train(Samples(x, y))


def test_epsilon_is_that_of_the_dearest_client(tmp_path):
    pytest.importorskip("opacus")
    fleet, cohort = Unequal(clients=8), Cohort(per_round=3)
    settings = {**SETTINGS, "fleet": fleet, "cohort": cohort, "rounds": 6}
    of = algorithms.fedavg(Task(), weighting="uniform", steps=2, lr=0.02)
    done = run(dp_sgd(of, clip=1.0, noise=2.0, batch_size=3, delta=1e-3), None, **settings)
    invited = Counter()
    for round, row in enumerate(done.metrics):
        invited.update(cohort.members(0, round, 8))
        costs = [
            epsilon(Rounds("poisson", 3 / fleet.shard(client).train.size, 2.0, 2 * times), 1e-3)
            for client, times in invited.items()
        ]
        assert row["epsilon"] == max(costs)
        assert "train_loss" not in row
    assert done.summary["privacy"]["neighbours"] == "fleets that differ in the presence of one example"
    for changes, message in (
        ({"evaluate": Evaluate(clients=True)}, "evaluate.clients must be off"),
        ({"batch_size": 7}, "batch_size must be at most the examples of each client, 6 of client 0"),
        ({"delta": 0.2}, "delta must be well below 1 / examples of a client, 0.111"),
    ):
        own = {"clip": 1.0, "noise": 2.0, "batch_size": 3, "delta": 1e-3}
        arguments = {**own, **{name: value for name, value in changes.items() if name in own}}
        rest = {name: value for name, value in changes.items() if name not in own}
        with pytest.raises(FedSepError, match=message):
            run(dp_sgd(of, **arguments), None, **{**settings, **rest})


@dataclasses.dataclass(frozen=True)
class Elsewhere(Unequal):
    """Data of which only some clients' are here."""

    present: tuple[int, ...] = ()

    def shard(self, client: int) -> Shard:
        if client < 1000 and client not in self.present:
            raise FedSepError(f"the data of client {client} are at its site")
        return super().shard(client)


def plan_for(fleet):
    """The plan of a private method with minibatches of seven examples."""
    own = dp_sgd(algorithms.fedavg(Task(), weighting="uniform", steps=2, lr=0.02), clip=1.0, noise=2.0, batch_size=7)
    return Plan(own, Task(), fleet, 3, 0, Cohort(), Evaluate(), Checkpoint(), Stop(), "memory", "run")


def test_sizes_that_are_at_the_sites_are_asked_for_by_one_sentence():
    pytest.importorskip("opacus")
    with pytest.raises(FedSepError, match=r"method must not be privacy.dp_sgd: .* which are at their sites") as caught:
        plan_for(Elsewhere(clients=8)).check()
    assert len(str(caught.value).splitlines()) == 1
    plan_for(Elsewhere(clients=8, present=(1, 2, 7))).check()  # a site knows its own
    with pytest.raises(FedSepError, match="batch_size must be at most the examples of each client, 6 of client 4"):
        plan_for(Elsewhere(clients=8, present=(1, 4))).check()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: privately(method(weighting="samples")), "must have weighting: uniform"),
        (lambda: privately(method(steps=None, epochs=1)), "must have steps instead of epochs"),
        (lambda: privately(method(clip=1.0)), "must have no clip of its own"),
        (lambda: privately(privately()), "must not be private already"),
        (lambda: central(privately(), clip=1.0, noise=1.0, replies=2), "must not be private already"),
        (
            lambda: privately(algorithms.fedsep_personal(network, strength=5.0, decode_steps=1, terms=1, steps=1)),
            "must have a codec that does not look at data",
        ),
        (lambda: privately(dataclasses.replace(method(), learner=object())), "must learn by plain local SGD"),
    ],
)
def test_what_would_not_be_private_is_refused(make, message):
    with pytest.raises(FedSepError, match=message):
        make()
