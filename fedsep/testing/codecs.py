"""The laws of codecs: encode is the transposed Jacobian of decode, and both are pure."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fedsep import tree
from fedsep.core import Codec, Ctx, Decoded, Params, Shard, Task, Tree, View
from fedsep.learners.sgd import SGD
from fedsep.testing.broken import LawBroken, name_of, require_alike, require_close, require_same
from fedsep.testing.draws import context, moved, random_like
from fedsep.testing.purity import pure
from fedsep.views.whole import Whole

ADJOINT = "<J u, v> = <u, encode(v)>, J the Jacobian of decode"
COLUMNS = "encode(v) equals the finite differences of <decode(x), v> in x"
LINEAR = "encode is linear in the learned change"
REMARK_1 = "after one full-batch step of rate 1, encode(dy) = -grad h, h(x) = f(decode(x)) (Remark 1)"
SHAPES = "decode and model give the model's parameters: its names, shapes and dtypes"
CLOCK = "advance only renews coordinates: the server's model stays as it is"


class Bench(NamedTuple):
    """A codec at a point: x on the server, one client's context, data and memory."""

    codec: Codec[Any]
    view: View
    shard: Shard
    ctx: Ctx
    x: Tree
    memory: Tree
    change: Tree

    def decode(self, x: Tree) -> Decoded:
        """Where learning starts, from the server's x."""
        return self.codec.decode(self.view.cut(x, self.ctx), self.memory, self.shard, self.ctx)[0]

    def encode(self, start: Decoded, y: Params) -> Tree:
        """dx of the learned change y - start.y."""
        received = self.view.cut(self.x, self.ctx)
        return self.codec.encode(start, y, received, self.memory, self.shard, self.ctx)[0]

    def at(self, u: Tree, by: float) -> Tree:
        """x moved by a client's change, put where it belongs in x."""
        return moved(self.x, self.view.paste(u, self.x, self.ctx)[0], by)

    def slope(self, u: Tree, step: float) -> Params:
        """J u by central differences."""
        ahead, behind = (self.decode(self.at(u, sign * step)).y for sign in (1, -1))
        return tree.scale(tree.sub(ahead, behind), 0.5 / step)


def bench(codec: Codec[Any], params: Params, shard: Shard, *, view: View | None = None, seed: int = 0) -> Bench:
    """A codec after one round, at a point in general position.

    Args:
        codec: The codec.
        params: The model's initial parameters.
        shard: One client's data.
        view: What decides which part of x the codec is given; all of it by default.
        seed: Of the point.
    """
    view = view or Whole()
    first, ctx = context(0, seed=seed), context(1, seen=0, seed=seed)
    x = codec.init(params)
    received = view.cut(x, first)
    start, memory = codec.decode(received, codec.enroll(received, first), shard, first)
    y = moved(start.y, random_like(start.y, seed + 1, 0.1))
    dx, memory, _ = codec.encode(start, y, received, memory, shard, first)
    pasted, _ = view.paste(random_like(dx, seed + 2, 0.1), x, first)
    x, _ = codec.advance(moved(x, pasted), 1)
    return Bench(codec, view, shard, ctx, x, memory, dx)


def adjoint(at: Bench, tolerance: float, trials: int = 3) -> None:
    """<J u, v> = <u, encode(v)> for random u and v, J by central differences."""
    start = at.decode(at.x)
    for trial in range(trials):
        u, v = random_like(at.change, 10 + trial), random_like(start.y, 20 + trial)
        pushed, pulled = at.slope(u, _step()), at.encode(start, moved(start.y, v))
        left, right = tree.dot(pushed, v), tree.dot(u, pulled)
        size = max(float(tree.norm(pushed) * tree.norm(v)), float(tree.norm(u) * tree.norm(pulled)))
        if not abs(float(left - right)) <= tolerance * size:
            expected = f"<J u, v> = {float(left):.9g} to {tolerance:.1g} of |J u||v| = {size:.3g}"
            raise LawBroken(ADJOINT, name_of(at.codec), expected, f"<u, encode(v)> = {float(right):.9g}")


def columns(at: Bench, tolerance: float, limit: int = 30) -> None:
    """encode(v) against the slope of <decode(x), v> in every coordinate of x, ``limit`` of them at most."""
    start = at.decode(at.x)
    v = random_like(start.y, 30)
    got = tree.ravel(at.encode(start, moved(start.y, v)))[0]
    flat, unravel = tree.ravel(at.change)
    places = range(min(limit, flat.numel()))
    slopes = torch.stack([tree.dot(at.slope(unravel(_unit(flat, place)), _step()), v) for place in places])
    require_close(COLUMNS, name_of(at.codec), slopes, got[: len(places)], tolerance)


def linear(at: Bench, tolerance: float) -> None:
    """encode(2 v - w) = 2 encode(v) - encode(w), and encode(0) = 0."""
    start = at.decode(at.x)
    v, w = (random_like(start.y, seed) for seed in (40, 41))

    def encoded(change: Params) -> Tree:
        return at.encode(start, moved(start.y, change))

    combined = tree.sub(tree.scale(encoded(v), 2.0), encoded(w))
    require_close(LINEAR, name_of(at.codec), combined, encoded(tree.sub(tree.scale(v, 2.0), w)), tolerance)
    nothing = at.encode(start, start.y)
    require_same(LINEAR, name_of(at.codec), tree.zeros_like(nothing), nothing)


def remark_1(at: Bench, task: Task, tolerance: float, limit: int = 30) -> None:
    """One full-batch step of rate 1, encoded, against finite differences of h(x) = f(decode(x))."""
    start = at.decode(at.x)
    y, _ = SGD(task, lr=1.0, steps=1, batch_size=None).learn(start, at.shard, at.ctx)
    got = tree.ravel(at.encode(start, y))[0]
    batch = at.shard.train.all()
    flat, unravel = tree.ravel(at.change)
    step = _step()

    def h(place: int, by: float) -> Tensor:
        return task.loss(at.decode(at.at(unravel(_unit(flat, place)), by)).y, batch)

    places = range(min(limit, flat.numel()))
    gradient = torch.stack([(h(place, step) - h(place, -step)) / (2 * step) for place in places])
    require_close(REMARK_1, name_of(at.codec), -gradient, got[: len(places)], tolerance)


def shapes(at: Bench, params: Params) -> None:
    """decode and model give what the model can be run with."""
    require_alike(SHAPES, f"{name_of(at.codec)}.decode", params, at.decode(at.x).y)
    require_alike(SHAPES, f"{name_of(at.codec)}.model", params, at.codec.model(at.x))


def purity(at: Bench, params: Params) -> None:
    """init, enroll, decode, encode, advance and model change nothing and give the same twice."""
    codec, name = at.codec, name_of(at.codec)
    pure(f"{name}.init", codec.init, params)
    received = at.view.cut(at.x, at.ctx)
    pure(f"{name}.enroll", codec.enroll, received, at.ctx)
    start, memory = pure(f"{name}.decode", codec.decode, received, at.memory, at.shard, at.ctx)
    y = moved(start.y, random_like(start.y, 50))
    pure(f"{name}.encode", codec.encode, start, y, received, memory, at.shard, at.ctx)
    for number in range(2, 6):
        pure(f"{name}.advance", codec.advance, at.x, number)
    pure(f"{name}.model", codec.model, at.x)


def clock(at: Bench, tolerance: float = 1e-9) -> None:
    """The server's model before and after ``advance``, over some rounds."""
    x, before = at.x, at.codec.model(at.x)
    for number in range(2, 8):
        x, _ = at.codec.advance(x, number)
        require_close(CLOCK, f"{name_of(at.codec)}.advance", before, at.codec.model(x), tolerance)


def check_codec(
    codec: Codec[Any],
    params: Params,
    shard: Shard,
    *,
    task: Task | None = None,
    view: View | None = None,
    tolerance: float | None = None,
    derivatives: bool = True,
    seed: int = 0,
) -> None:
    """Every law of codecs, at a point in general position after one round.

    Args:
        codec: The codec.
        params: The model's initial parameters; float64 makes the finite differences sharp.
        shard: One client's data.
        task: With it, Remark 1 is checked, too: that encode descends h(x) = f(decode(x)).
        view: Which part of x the codec is given (``CatchUp`` for a sketch); all of it by default.
        tolerance: Relative, of the laws about derivatives; by default 1e-6 in float64 and 1e-2 in float32.
        derivatives: False leaves these laws out, for a decode that is stopped early or is stochastic: it is
            not yet the argmin whose Jacobian encode transposes.
        seed: Of the point and the directions.

    Raises:
        LawBroken: A law does not hold; the message says which, what was expected and what came.
    """
    allowed = tolerance if tolerance is not None else _tolerance()
    at = bench(codec, params, shard, view=view, seed=seed)
    shapes(at, params)
    purity(at, params)
    clock(at, 1e-9 if torch.get_default_dtype() == torch.float64 else 1e-5)
    if derivatives:
        linear(at, allowed)
        adjoint(at, allowed)
        columns(at, allowed)
    if derivatives and task is not None:
        remark_1(at, task, allowed)


def _unit(flat: Tensor, place: int) -> Tensor:
    unit = torch.zeros_like(flat)
    unit[place] = 1.0
    return unit


def _step() -> float:
    """The step of central differences whose truncation and rounding errors are about equal."""
    return torch.finfo(torch.get_default_dtype()).eps ** (1 / 3)


def _tolerance() -> float:
    return 1e-6 if torch.get_default_dtype() == torch.float64 else 1e-2
