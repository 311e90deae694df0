"""Decoding at every few learning steps."""

from __future__ import annotations

import pytest
import torch

from fedsep import data, models, random, servers, tasks, tree
from fedsep.algorithms import fedavg, fedsep_lasso, topk_ef
from fedsep.core import Ctx, FedSepError, Reply
from fedsep.data import iid
from fedsep.paper.stepwise import stepwise
from fedsep.train import fit


@pytest.fixture(scope="module")
def stage():
    torch.set_default_dtype(torch.float64)
    federation = data.digits(clients=3, partition=iid())
    return federation, tasks.classification(models.logistic(federation.shape, federation.classes, seed=0))


def trained(algorithm, stage, rounds=3):
    federation, task = stage
    return tree.ravel(fit(algorithm, task, federation, rounds=rounds).params)[0]


def test_decoding_once_is_the_method_itself(stage):
    method = fedsep_lasso(stage[1], p=30, beta=0.3, steps=3, batch_size=8, decode_steps=20)
    assert torch.equal(trained(stepwise(of=method, decodes=1), stage), trained(method, stage))


def test_for_the_identity_it_makes_no_difference_how_often_one_decodes(stage):
    whole = fedavg(stage[1], steps=4, batch_size=None)
    for decodes in (2, 3, 4):
        torch.testing.assert_close(trained(stepwise(of=whole, decodes=decodes), stage), trained(whole, stage))


def test_x_moves_between_decodes_as_by_hand(stage):
    federation, task = stage
    method = fedsep_lasso(task, p=30, beta=0.3, steps=2, batch_size=8, decode_steps=20, warm_start=False)
    one = fedsep_lasso(task, p=30, beta=0.3, steps=1, batch_size=8, decode_steps=20, warm_start=False)
    nested = stepwise(of=method, decodes=2, rate=0.5)
    state, shard = nested.init(task.init()), federation.shard(0)
    ctx = Ctx(0, 1.0, random.key(3), -1, None)
    payload = nested.broadcast(state, ctx)
    sent, _, _ = nested.update(payload, nested.enroll(payload, ctx), shard, ctx)

    later = ctx._replace(key=random.fold(ctx.key, 2))
    x, memory, total = state.x, one.codec.enroll(state.x, ctx), tree.zeros_like(state.x)
    for own in (ctx, later):
        start, memory = one.codec.decode(x, memory, shard, own)
        y, _ = one.learner.learn(start, shard, own)
        dx, memory, _ = one.codec.encode(start, y, x, memory, shard, own)
        x, total = tree.add(x, dx, 0.5), tree.add(total, dx)
    torch.testing.assert_close(nested.uplink.unpack(sent, state.x, ctx)["omega"], total["omega"])
    assert float(tree.norm(total)) > 0


def test_a_lone_clients_x_ends_where_the_servers_does(stage):
    """The rate between decodes is the server's unless it is given: a step is as long on both ends."""
    federation, task = stage
    method = fedsep_lasso(task, p=30, steps=2, batch_size=8)
    nested = stepwise(of=method, decodes=2)
    assert nested.rate == method.server.rule.lr > 2
    state, shard, ctx = nested.init(task.init()), federation.shard(0), Ctx(0, 1.0, random.key(3), -1, None)
    payload = nested.broadcast(state, ctx)
    sent, memory, _ = nested.update(payload, nested.enroll(payload, ctx), shard, ctx)
    after, _ = nested.aggregate(state, [Reply(0, ctx, sent, 1)])
    x, memory = state.x, nested.codec.enroll(state.x, ctx)
    for own in (ctx, ctx._replace(key=random.fold(ctx.key, 2))):
        x, _, memory, _ = nested._part(x, memory, shard, own, 1)
    torch.testing.assert_close(after.x["omega"], x["omega"])


def test_local_models_are_those_of_the_update(stage):
    federation, task = stage
    nested = stepwise(of=fedavg(task, steps=4, batch_size=8), decodes=2)
    state, shard = nested.init(task.init()), federation.shard(0)
    ctx = Ctx(0, 1.0, random.key(3), -1, None)
    payload = nested.broadcast(state, ctx)
    before, after = nested.local_models(payload, nested.enroll(payload, ctx), shard, ctx)
    sent, _, _ = nested.update(payload, nested.enroll(payload, ctx), shard, ctx)
    change = nested.uplink.unpack(sent, state.x, ctx)
    torch.testing.assert_close(tree.ravel(tree.sub(after, before))[0], tree.ravel(change)[0])


def test_what_is_refused(stage):
    with pytest.raises(FedSepError, match=r"decodes must be at most steps = 2 \(got 3\)"):
        stepwise(of=fedavg(stage[1], steps=2), decodes=3)
    with pytest.raises(FedSepError, match="must learn by steps of local SGD"):
        stepwise(of=fedavg(stage[1], epochs=1), decodes=2)
    with pytest.raises(FedSepError, match="of must send x itself"):
        stepwise(of=topk_ef(stage[1], k=3, steps=2), decodes=2)
    with pytest.raises(FedSepError, match="give rate"):
        stepwise(of=fedavg(stage[1], steps=2, server=servers.adam()), decodes=2)
    assert stepwise(of=fedavg(stage[1], steps=2, server=servers.adam()), decodes=2, rate=0.5).rate == 0.5
    with pytest.raises(FedSepError, match="decodes"):
        stepwise(of=fedavg(stage[1], steps=2), decodes=0)
