"""Local SGD: torch's, step by step; minibatches without replacement; schedules; usable inside vmap."""

import math

import pytest
import torch
from catalogue import Tiny, network, shard
from hypothesis import given
from hypothesis import strategies as st

from fedsep import algorithms, random, tree
from fedsep.core import Ctx, Decoded, FedSepError, Samples, Shard
from fedsep.learners import cosine, exponential, milestones, sgd
from fedsep.learners.batches import minibatches, per_epoch
from fedsep.testing import pure
from fedsep.testing.draws import context

PART, CTX = shard(network, 0, 11), context(4, seen=3)


def torchs(task: Tiny, start, batches, *, clip=None, mu=0.0, **options):
    """The same steps by torch.optim.SGD."""
    leaves = {name: part.clone().requires_grad_() for name, part in start.items()}
    optimizer = torch.optim.SGD(leaves.values(), **options)
    for batch in batches:
        optimizer.zero_grad()
        proximal = sum(((leaves[name] - start[name]) ** 2).sum() for name in start)
        (task.loss(leaves, batch) + mu / 2 * proximal).backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(leaves.values(), clip)
        optimizer.step()
    return {name: leaf.detach() for name, leaf in leaves.items()}


@pytest.mark.parametrize(("mine", "theirs"), [
    ({}, {}),
    ({"momentum": 0.9}, {"momentum": 0.9}),
    ({"weight_decay": 0.1}, {"weight_decay": 0.1}),
    ({"clip": 0.2}, {"clip": 0.2}),
    ({"clip": 100.0}, {}),
    ({"proximal": 0.7}, {"mu": 0.7}),
    ({"momentum": 0.5, "weight_decay": 0.1, "clip": 0.2, "proximal": 0.7},
     {"momentum": 0.5, "weight_decay": 0.1, "clip": 0.2, "mu": 0.7}),
], ids=lambda options: " ".join(options) or "plain")  # fmt: skip
def test_steps_are_those_of_torch(mine, theirs):
    batches = list(minibatches(PART.train, random.fold(CTX.key, 1), 4, 7))
    for count in (1, 2, 7):
        y, _ = sgd(network, lr=0.3, steps=count, batch_size=4, **mine).learn(Decoded(network.init()), PART, CTX)
        expected = torchs(network, network.init(), batches[:count], lr=0.3, **theirs)
        torch.testing.assert_close(y, expected, rtol=1e-5 if "clip" in theirs else 1e-12, atol=1e-12)


def test_the_loss_is_the_mean_over_the_minibatches_before_each_step():
    y, losses = network.init(), []
    for batch in minibatches(PART.train, random.fold(CTX.key, 1), 4, 3):
        losses.append(float(network.loss(y, batch)))
        y = torchs(network, y, [batch], lr=0.3)
    _, info = sgd(network, lr=0.3, steps=3, batch_size=4).learn(Decoded(network.init()), PART, CTX)
    assert float(info["loss"]) == pytest.approx(sum(losses) / 3)
    assert not info["loss"].requires_grad


def test_momentum_starts_anew_in_every_round():
    learner = sgd(network, lr=0.3, steps=1, batch_size=None, momentum=0.9)
    plain = sgd(network, lr=0.3, steps=1, batch_size=None)
    assert torch.equal(*(made.learn(Decoded(network.init()), PART, CTX)[0]["0.bias"] for made in (learner, plain)))


def test_epochs_go_over_all_data():
    seen = []

    class Counting(Tiny):
        def loss(self, params, batch):
            seen.append(batch.y.shape[0])
            return super().loss(params, batch)

    sgd(Counting(), epochs=3, batch_size=4).learn(Decoded(network.init()), PART, CTX)
    assert seen == [4, 4, 3] * 3
    seen.clear()
    sgd(Counting(), epochs=2, batch_size=None).learn(Decoded(network.init()), PART, CTX)
    assert seen == [11, 11]
    seen.clear()
    sgd(Counting()).learn(Decoded(network.init()), PART, CTX)
    assert seen == [11] * 5  # 5 steps unless told otherwise; a batch is never larger than the data


def test_steps_and_epochs_exclude_each_other():
    with pytest.raises(FedSepError, match=r"steps and epochs exclude each other \(got steps=3, epochs=1\)"):
        sgd(network, steps=3, epochs=1)


def test_a_projection_holds_after_every_step_and_a_penalty_pulls():
    start = network.init()

    def ball(y):
        return tree.scale(y, (0.5 / tree.norm(y)).clamp_max(1.0))

    y, _ = sgd(network, lr=0.5, steps=4, batch_size=4).learn(Decoded(start, project=ball), PART, CTX)
    assert float(tree.norm(y)) == pytest.approx(0.5)

    learner = sgd(network, lr=0.1, steps=6, batch_size=4)
    penalised, info = learner.learn(
        Decoded(start, penalty=lambda y: 0.35 * tree.dot(tree.sub(y, start), tree.sub(y, start))), PART, CTX
    )
    proximal, _ = sgd(network, lr=0.1, steps=6, batch_size=4, proximal=0.7).learn(Decoded(start), PART, CTX)
    torch.testing.assert_close(penalised, proximal, rtol=1e-10, atol=1e-12)
    assert math.isfinite(info["loss"])


def test_learning_is_pure_and_depends_on_the_key():
    learner = sgd(network, lr=0.3, steps=3, batch_size=4, momentum=0.5)
    y, _ = pure("sgd", lambda params, part, ctx: learner.learn(Decoded(params), part, ctx), network.init(), PART, CTX)
    other, _ = learner.learn(Decoded(network.init()), PART, context(5))
    assert not torch.equal(y["0.weight"], other["0.weight"])


# Minibatches


@given(size=st.integers(1, 30), batch_size=st.integers(1, 12), epochs=st.integers(1, 3), seed=st.integers(0, 10**6))
def test_an_epoch_has_every_example_once(size, batch_size, epochs, seed):
    samples = Samples(torch.arange(size, dtype=torch.float64)[:, None], torch.arange(size))
    each = per_epoch(samples, batch_size)
    batches = list(minibatches(samples, random.key(seed), batch_size, epochs * each))
    assert len(batches) == epochs * each
    for epoch in range(epochs):
        drawn = torch.cat([batch.y for batch in batches[epoch * each : (epoch + 1) * each]])
        assert drawn.sort().values.tolist() == list(range(size))
    assert all(torch.equal(batch.x[:, 0].long(), batch.y) for batch in batches)
    assert all(len(batch.y) == min(batch_size, size) for n, batch in enumerate(batches) if (n + 1) % each)


def test_every_epoch_has_an_order_of_its_own_and_a_count_may_end_inside():
    samples = Samples(torch.zeros(20, 1), torch.arange(20))
    batches = list(minibatches(samples, random.key(1), 5, 7))
    assert len(batches) == 7
    first, second = (torch.cat([batch.y for batch in batches[at : at + 3]]) for at in (0, 4))
    assert not torch.equal(first, second)
    assert list(minibatches(samples, random.key(1), 5, 0)) == []


def test_all_examples_come_in_their_own_order():
    samples = Samples(torch.zeros(6, 1), torch.arange(6))
    for size in (None, 6, 7):
        assert [batch.y.tolist() for batch in minibatches(samples, random.key(1), size, 2)] == [list(range(6))] * 2


def test_images_are_normalised_when_a_batch_is_taken():
    images = torch.arange(12, dtype=torch.uint8).reshape(3, 1, 2, 2)
    samples = Samples(images, torch.arange(3), shift=torch.tensor(2.0), scale=torch.tensor(0.5))
    batch = samples.take(torch.tensor([2, 0]))
    assert batch.x.dtype == torch.get_default_dtype()
    torch.testing.assert_close(batch.x, (images[[2, 0]].double() - 2) / 2)
    assert samples.x.dtype == torch.uint8
    assert samples.size == 3


# Schedules


def test_cosine_goes_from_1_to_its_floor_after_a_warm_up():
    factor = cosine(rounds=110, floor=0.1, warmup=10)
    assert [factor(n) for n in range(10)] == pytest.approx([(n + 1) / 10 for n in range(10)])
    assert factor(10) == 1.0
    assert factor(60) == pytest.approx(0.55)
    assert factor(110) == factor(500) == pytest.approx(0.1)
    assert all(factor(n) > factor(n + 1) for n in range(10, 110))


def test_milestones_and_exponential():
    factor = milestones(at=[10, 20], factor=0.1)
    assert [factor(n) for n in (0, 9, 10, 19, 20, 99)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert exponential(rate=0.9)(3) == pytest.approx(0.729)
    for wrong in ([20, 10], [5, 5], [-1]):
        with pytest.raises(FedSepError, match="increasing rounds from 0"):
            milestones(at=wrong)


def test_a_schedule_scales_the_rate_by_the_round():
    scheduled = sgd(network, lr=0.4, steps=2, batch_size=4, schedule=exponential(rate=0.5))
    plain = sgd(network, lr=0.1, steps=2, batch_size=4)
    ctx = context(2)
    torch.testing.assert_close(*(made.learn(Decoded(network.init()), PART, ctx)[0] for made in (scheduled, plain)))


# vmap


@pytest.mark.parametrize("options", [
    {"batch_size": 3}, {"batch_size": None}, {"batch_size": 3, "momentum": 0.5, "weight_decay": 0.1, "clip": 0.3},
], ids=["minibatches", "all data", "every option"])  # fmt: skip
def test_clients_in_vmap_equal_the_loop(options):
    algorithm = algorithms.fedavg(network, lr=0.2, steps=4, **options)
    parts = [shard(network, client, 7).train for client in range(4)]
    keys = torch.stack([context(3, client=client).key for client in range(4)])
    payload = network.init()

    def update(x, y, key):
        reply, _, info = algorithm.update(
            payload, algorithm.enroll(payload, CTX), Shard(Samples(x, y)), Ctx(3, 1.0, key)
        )
        return reply, info

    replies, info = torch.vmap(update)(
        torch.stack([part.x for part in parts]), torch.stack([part.y for part in parts]), keys
    )
    for client, (part, key) in enumerate(zip(parts, keys, strict=True)):
        alone, told = update(part.x, part.y, key)
        torch.testing.assert_close(tree.unstack(replies)[client], alone, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(info["loss"][client], told["loss"], rtol=1e-12, atol=1e-13)
