"""Law: each factor of the series has a minibatch of its own, or all share one (``reuse``, Eq. 3 as printed)."""

import pytest
import torch
from catalogue import linear, shard

from fedsep import algorithms, random, tree
from fedsep.core import Batch, Shard
from fedsep.learners.batches import minibatches
from fedsep.testing.draws import context, random_like

STRENGTH, TAU, TERMS, SIZE = 5.0, 0.05, 4, 3
CTX = context(3, seen=2)


def codec(**arguments):
    return algorithms.fedsep_implicit(
        linear, inner=algorithms.fedsep_personal(linear, strength=STRENGTH).codec.inner, decode_steps=0, tau=TAU,
        terms=TERMS, warm_start=False, **arguments,
    ).codec  # fmt: skip


def encoded(part: Shard, **arguments):
    made, x = codec(**arguments), linear.init()
    start, _ = made.decode(x, (), part, CTX)
    v = random_like(x, 1)
    return tree.ravel(made.encode(start, tree.add(start.y, v), x, (), part, CTX)[0])[0], tree.ravel(v)[0]


def hessian(batch: Batch) -> torch.Tensor:
    """Of the squared loss of a linear model, in the order (weight, bias) with the outputs first."""
    n, outputs = batch.x.shape[0], batch.y.shape[1]
    features = torch.cat([batch.x, torch.ones(n, 1)], 1)
    gram, inputs = features.mT @ features / n, batch.x.shape[1]
    full = torch.zeros(outputs * (inputs + 1), outputs * (inputs + 1))
    for k in range(outputs):
        index = torch.tensor([*range(k * inputs, (k + 1) * inputs), outputs * inputs + k])
        full[index[:, None], index[None, :]] = gram
    return full + STRENGTH * torch.eye(len(full))


def series(v: torch.Tensor, batches: list[Batch]) -> torch.Tensor:
    term = total = v
    for batch in batches:
        term = term - TAU * hessian(batch) @ term
        total = total + term
    return STRENGTH * TAU * total


def drawn(part: Shard, count: int) -> list[Batch]:
    return list(minibatches(part.train, random.fold(CTX.key, 3), SIZE, count))


def test_fresh_minibatches_are_one_for_each_factor():
    part = shard(linear, 0, 12)
    got, v = encoded(part, encode_batch_size=SIZE)
    torch.testing.assert_close(got, series(v, drawn(part, TERMS + 1)[:TERMS]), rtol=1e-9, atol=1e-12)


def test_reuse_takes_one_minibatch_for_all_factors():
    part = shard(linear, 0, 12)
    got, v = encoded(part, encode_batch_size=SIZE, reuse=True)
    torch.testing.assert_close(got, series(v, drawn(part, 1) * TERMS), rtol=1e-9, atol=1e-12)
    fresh, _ = encoded(part, encode_batch_size=SIZE)
    assert not torch.allclose(got, fresh)


def test_without_a_size_all_data_are_in_every_factor():
    part = shard(linear, 0, 12)
    got, v = encoded(part)
    torch.testing.assert_close(got, series(v, [part.train.all()] * TERMS), rtol=1e-9, atol=1e-12)


def test_cg_keeps_to_one_minibatch():
    part = shard(linear, 0, 12)
    solved, v = encoded(part, encode_batch_size=SIZE, solver="cg", tolerance=1e-12)
    exact = STRENGTH * torch.linalg.solve(hessian(drawn(part, 1)[0]), v)
    torch.testing.assert_close(solved, exact, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("reuse", [False, True])
def test_the_mixed_product_has_the_last_minibatch(reuse):
    """g = 1/2 |y|^2 + <mean of the batch, x> y: d_xy g is the batch's mean, the Hessian is 1."""
    part = shard(linear, 0, 12)

    def inner(x, y, batch):
        return 0.5 * y["y"].square().sum() + (batch.x.mean(0) @ x["x"]) * y["y"].sum()

    made = algorithms.fedsep_implicit(
        linear, inner=inner, start=lambda x: {"y": torch.zeros(1)}, decode_steps=0, warm_start=False, terms=2, tau=1.0,
        encode_batch_size=SIZE, reuse=reuse,
    ).codec  # fmt: skip
    x = {"x": torch.ones(4)}
    start, _ = made.decode(x, (), part, CTX)
    dx, _, _ = made.encode(start, {"y": torch.ones(1)}, x, (), part, CTX)
    batch = drawn(part, 3)[0 if reuse else 2]
    torch.testing.assert_close(dx["x"], -batch.x.mean(0))
