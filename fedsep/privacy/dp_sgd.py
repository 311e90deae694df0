"""Differential privacy of examples: each client takes its local steps by DP-SGD, and trusts nobody."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import grad, vmap

from fedsep import tree
from fedsep.codecs.identity import Identity
from fedsep.codecs.linear import Linear
from fedsep.codecs.patched import Patched
from fedsep.codecs.replay import Replay
from fedsep.core import Batch, Ctx, Decoded, FedSepError, Info, Params, Shard
from fedsep.fedsep import FedSep
from fedsep.learners.sgd import SGD
from fedsep.privacy.guarantee import Delta, Guarantee
from fedsep.privacy.noise import chosen, derived, new_secret, normal_like
from fedsep.ranges import Count, NonNegativeInt, Positive, checked

BLIND = (Identity, Linear, Patched, Replay)
"""Codecs that do not look at a client's data."""


@dataclass(frozen=True)
class PrivateSteps:
    """See ``dp_sgd``: local steps along the noisy sum of clipped gradients of examples."""

    sgd: SGD
    privacy: Guarantee

    def learn(self, start: Decoded, shard: Shard, ctx: Ctx) -> tuple[Params, Info]:
        """y_I; the loss is not told, since it would be without noise."""
        promised = self.privacy
        secret = derived(new_secret(promised.secret, promised.seed), int(ctx.key))  # the key is public
        rate, y, velocity, lr = promised.replies / shard.train.size, start.y, None, self.sgd.rate(ctx)
        for step in range(promised.steps):
            index = chosen(secret, "batch", step, shard.train.size, rate)
            total = self._total(y, shard.train.take(index.to(shard.train.y.device)))
            noise = normal_like(secret, "step", step, total)
            noisy = tree.add(total, noise, promised.noise * promised.clip)
            gradient = {name: (part / promised.replies).to(y[name].dtype) for name, part in noisy.items()}
            velocity = self.sgd.direction(gradient, y, start.y, velocity)
            y = start.project({name: y[name].sub(velocity[name], alpha=lr) for name in y})
        return y, {}

    def _total(self, y: Params, batch: Batch) -> Params:
        """The sum of the clipped gradients, float64; a minibatch may be empty."""
        if not len(batch.y):
            return {name: torch.zeros_like(part, dtype=torch.float64) for name, part in y.items()}

        def loss(y: Params, one: Tensor, target: Tensor) -> Tensor:
            return self.sgd.problem.loss(y, Batch(one[None], target[None]))

        each: Params = vmap(grad(loss), in_dims=(None, 0, 0))(y, *batch)
        wide = {name: part.to(torch.float64) for name, part in each.items()}
        squares = [part.reshape(len(part), -1).square().sum(1) for part in wide.values()]
        factor = self.privacy.clip / torch.stack(squares).sum(0).sqrt().clamp_min(self.privacy.clip)
        return {name: torch.tensordot(factor, part, 1) for name, part in wide.items()}


@checked
def dp_sgd(
    method: FedSep,
    *,
    clip: Positive,
    noise: Positive,
    batch_size: Count,
    delta: Delta = 1e-5,
    secret: NonNegativeInt | None = None,
    seed: NonNegativeInt = 0,
) -> FedSep:
    r"""Local steps by DP-SGD, around a method: y <- y - lr (sum_i clip(grad f(y; i)) + noise) / batch_size.

    Each example of a client is in a minibatch with chance batch_size / n, by a draw of its own; clip(g) =
    g min(1, C / |g|) over all parameters together, the noise is N(0, (noise C)^2) in each. Everything that a client
    sends follows from such steps. The gradients are those of ``torch.func.vmap`` over examples.

    Who is trusted: the client with its own data, and nobody else. Epsilon is for fleets that differ in the presence of
    one *example* (a client's number of examples being known), and is that of the client for which it is largest:
    of those invited most often, the one with the fewest examples.

    Args:
        method: A method of plain local SGD (``steps``, not ``epochs``; without ``clip``, which is for minibatches),
            uniform weights, and a codec that does not look at data: FedAvg's or a linear sketch's. Its batch_size is
            not used.
        clip: C, the largest Euclidean norm of an example's gradient.
        noise: Standard deviation of the noise on the sum of a minibatch, over C.
        batch_size: The expected size of a minibatch, which the sum is divided by.
        delta: Of (epsilon, delta); well below 1 / examples of a client.
        secret: A number instead of the clients' own entropy, to repeat a run bit for bit. For tests and studies.
        seed: Goes with ``secret``: the run's seed.

    Bytes:
        Those of ``method``.

    Memory:
        Client: a gradient for each example of a minibatch.

    Raises:
        FedSepError: The method learns, weights or encodes in a way that this would not cover.

    Reference:
        Abadi et al. 2016, arXiv:1607.00133.
    """
    wrong = _wrong(method)
    if wrong:
        raise FedSepError("; ".join(f"dp_sgd: method must {reason}" for reason in wrong))
    learner: SGD = method.learner  # type: ignore[assignment]
    promised = Guarantee("dp_sgd", clip, noise, batch_size, delta, 1, secret, seed, learner.steps or 0)
    return dataclasses.replace(method, learner=PrivateSteps(learner, promised))


def _wrong(method: FedSep) -> list[str]:
    if type(method) is not FedSep:
        return [f"be made of the five parts (got {type(method).__name__})"]
    learner, found = method.learner, list[str]()
    if method.privacy is not None:
        found.append("not be private already")
    elif type(learner) is not SGD:
        found.append(f"learn by plain local SGD (got {type(learner).__name__})")
    elif learner.steps is None:
        found.append("have steps instead of epochs: how many there are would follow from a client's number of examples")
    elif learner.clip is not None:
        found.append("have no clip of its own: it clips minibatches, not examples")
    elif learner.augment is not None:
        found.append("have no augment: its minibatches are drawn in secret, and are taken as they are")
    if method.weighting != "uniform":
        found.append("have weighting: uniform: a client's number of examples is told without noise")
    if not isinstance(method.codec, BLIND):
        found.append(f"have a codec that does not look at data (got {type(method.codec).__name__})")
    return found
