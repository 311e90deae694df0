"""What a wire promises, measured: over messages of several kinds, and over keys where it draws."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fedsep import random, tree
from fedsep.core import Ctx, Tree, Wire
from fedsep.testing.broken import LawBroken, name_of, require_close, require_same
from fedsep.testing.draws import random_like
from fedsep.wires.promises import Contraction, Deferred, Exact, Lossy, Promise, Unbiased

EXACT = "what is read is what was packed, bit for bit"
CONTRACTS = "E |read - sent|^2 <= (1 - delta) |sent|^2"
UNBIASED = "the mean of what is read is what was packed"
VARIANCE = "E |read - sent|^2 <= omega |sent|^2"
CONSERVED = "what was read so far and the memory are together what was sent so far"
FINITE = "what is read of finite numbers is finite"

_ERRORS = 5.0  # standard errors: fixed keys make a test that passes once pass for ever


def check_promise(wire: Wire[Any], sent: Tree, promise: Promise, ctx: Ctx, draws: int) -> None:
    """The promise, on ``sent`` and on messages of its shapes: normal, heavy-tailed, constant, a single spike.

    Raises:
        LawBroken: It does not hold.
    """
    if isinstance(promise, Deferred):
        conserved(wire, sent, ctx)
    each = promise.each if isinstance(promise, Deferred) else promise
    kinds = messages(sent)
    draws = draws if not isinstance(each, Lossy) and _draws(wire, kinds[1], ctx) else 1
    for message in kinds:
        reads = [_read(wire, message, _redrawn(ctx, draw)) for draw in range(draws)]
        _measure(name_of(wire), each, _flat(message), torch.stack(reads))


def _draws(wire: Wire[Any], message: Tree, ctx: Ctx) -> bool:
    """Whether what is read depends on the key."""
    first, *others = (_read(wire, message, _redrawn(ctx, draw)) for draw in range(4))
    return any(not torch.equal(first, other) for other in others)


def _redrawn(ctx: Ctx, draw: int) -> Ctx:
    return ctx._replace(key=random.fold(ctx.key, draw))


def messages(like: Tree) -> list[Tree]:
    """Messages of several kinds in the shapes of ``like``, which is the first."""
    normal = random_like(like, 1, 0.1)

    def each(change: Callable[[Tensor], Tensor]) -> Tree:
        return tree.map(lambda part: change(part) if part.is_floating_point() else part, normal)

    def spike(part: Tensor) -> Tensor:
        return torch.where(torch.arange(part.numel(), device=part.device).reshape(part.shape) == 0, part, 0.0)

    return [like, normal, each(lambda part: part**5), each(lambda part: torch.full_like(part, -0.5)), each(spike)]


def conserved(wire: Wire[Any], sent: Tree, ctx: Ctx, rounds: int = 6) -> None:
    """Over some messages of which every third is lost: the sender's memory then stays as it was."""
    name, memory = name_of(wire), wire.init(sent)
    if not hasattr(memory, "error"):
        raise LawBroken(CONSERVED, name, "a memory whose `error` is what was left out so far", type(memory).__name__)
    total, heard = tree.zeros_like(sent), tree.zeros_like(sent)
    for number in range(rounds):
        now = _redrawn(ctx, number)._replace(round=number)
        message = random_like(sent, number)
        payload, proposed = wire.pack(message, memory, now)
        if number % 3 != 2:
            memory = proposed
            total = tree.add(total, message)
            heard = tree.add(heard, wire.unpack(payload, message, now))
    tolerance = 1e-12 if torch.get_default_dtype() == torch.float64 else 1e-5
    require_close(CONSERVED, name, total, tree.add(heard, memory.error), tolerance)


def _measure(name: str, promise: Promise, sent: Tensor, reads: Tensor) -> None:
    """The promise about one message; ``reads`` has a row for each key."""
    if not bool(torch.isfinite(reads).all()):
        raise LawBroken(FINITE, name, "finite numbers", "nan or inf")
    size = float(sent.square().sum())
    rounding = 8 * torch.finfo(torch.get_default_dtype()).eps * size
    errors = (reads - sent).square().sum(1)
    match promise:
        case Exact():
            require_same(EXACT, name, sent, reads[0])
        case Contraction(delta):
            _at_most(f"{CONTRACTS}, delta = {delta:.3g}", name, (1 - delta) * size + rounding, errors)
        case Unbiased(omega):
            _at_most(f"{VARIANCE}, omega = {omega:.3g}", name, omega * size + rounding, errors)
            _centred(name, sent, reads, rounding)
        case Deferred() | Lossy():
            pass


def _at_most(law: str, name: str, bound: float, errors: Tensor) -> None:
    mean, doubt = float(errors.mean()), _ERRORS * float(errors.std(correction=0)) / math.sqrt(len(errors))
    if not mean - doubt <= bound * (1 + 1e-6):
        raise LawBroken(law, name, f"at most {bound:.6g}", f"{mean:.6g}, uncertain by {doubt:.2g}")


def _centred(name: str, sent: Tensor, reads: Tensor, rounding: float) -> None:
    """|mean - sent|^2 is about the variance over the number of draws."""
    variance = float(reads.var(0, correction=0).sum()) / len(reads)
    apart = float((reads.mean(0) - sent).square().sum())
    if not apart <= _ERRORS**2 * variance + rounding:
        expected = f"|mean - sent| <= {_ERRORS:.0f} standard errors of {math.sqrt(variance):.3g}"
        raise LawBroken(UNBIASED, name, expected, f"{math.sqrt(apart):.3g}")


def _read(wire: Wire[Any], message: Tree, ctx: Ctx) -> Tensor:
    return _flat(wire.unpack(wire.pack(message, wire.init(message), ctx)[0], message, ctx))


def _flat(message: Tree) -> Tensor:
    """In float64: a law must not add roundings of its own."""
    return tree.ravel(tree.map(lambda part: part.to(torch.float64), message))[0]
