"""Law (Remark 1): one full-batch step of rate 1, encoded, is -grad h, h(x) = f(decode(x))."""

import pytest
import torch
from catalogue import CONVERGED, Row, name, network, ridge, shard

from fedsep import algorithms
from fedsep.core import Reply
from fedsep.testing import codecs
from fedsep.testing.draws import context


@pytest.mark.parametrize("row", CONVERGED, ids=name)
def test_encode_of_a_step_is_minus_the_gradient_of_h(row: Row):
    algorithm = row.build(converged=True)
    at = codecs.bench(algorithm.codec, row.task.init(), shard(row.task), view=algorithm.view)
    codecs.remark_1(at, row.task, 1e-6, limit=6)


def test_the_server_descends_h():
    """In closed form: decode is the ridge's, h(x) = mean_m f_m(serve(x)), and a round is a step of gradient descent."""
    g, shards = ridge(), [shard(network, client) for client in range(2)]
    algorithm = algorithms.fedsep_implicit(
        network, inner=g, initial=g.initial, start=g.start, serve=g.serve, decode_steps=40, decode_lr=0.4,
        terms=40, tau=0.4, lr=1.0, steps=1, batch_size=None,
    )  # fmt: skip
    state = algorithm.init(network.init())
    replies = []
    for client, part in enumerate(shards):
        ctx = context(0, client=client)
        sent = algorithm.broadcast(state, ctx)
        reply, _, _ = algorithm.update(sent, algorithm.enroll(sent, ctx), part, ctx)
        replies.append(Reply(client, ctx, reply))
    after, _ = algorithm.aggregate(state, replies)

    x = state.x["sketched"].clone().requires_grad_()
    h = sum(network.loss(g.serve({"sketched": x}), part.train.all()) for part in shards) / 2
    (gradient,) = torch.autograd.grad(h, x)
    torch.testing.assert_close(after.x["sketched"], x.detach() - gradient, rtol=1e-8, atol=1e-10)
