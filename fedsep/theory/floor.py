"""Corollary 3.8's floor: where Q, I_dec and drift leave the iteration, against its fixed point in closed form."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from fedsep.theory.finding import Check, Finding, Line, Picture, Scale
from fedsep.theory.moments import series
from fedsep.theory.quadratic import Quadratic, quadratic
from fedsep.theory.rounds import Moment, rounds
from fedsep.theory.settings import Settings

_EXACT = Settings(terms=12, decode_steps=16, steps=1, lr=0.5)
_ROUNDS = 25


def corollary_floor(scale: Scale, seed: int) -> Finding:
    """Corollary 3.8: the floor of |∇h|² falls as (1 − τμ)^(2Q+2) and (1 − γμ)^(2 I_dec); with γ ~ T^-1/2 it rises."""
    bed = quadratic(seed, clients=2, mu=0.5)
    rates = (0.5, 0.25, 0.125, 0.0625)
    slow = [replace(_EXACT, decode_steps=4, decode_lr=rate) for rate in rates]
    sweeps: list[tuple[str, list[Settings], list[float]]] = [
        ("Q", [replace(_EXACT, terms=q) for q in (0, 2, 4, 6)], [0, 2, 4, 6]),
        ("I_dec", [replace(_EXACT, decode_steps=i) for i in (1, 3, 5, 7)], [1, 3, 5, 7]),
        ("I", [replace(_EXACT, steps=i) for i in (2, 4)], [2, 4]),
        ("η (I = 4)", [replace(_EXACT, steps=4, lr=e) for e in (0.05, 0.2)], [0.05, 0.2]),
        ("T (γ = T^-1/2, I_dec = 4)", slow, [g**-2 for g in rates]),
    ]  # fmt: skip
    checks, pictures = list[Check](), list[Picture]()
    for letter, settings, values in sweeps:
        told = [fixed_point(bed, each).floor for each in settings]
        tried = list(zip(settings, values, strict=True)) if scale.every_value else [(settings[0], values[0])]
        measured = [_end(bed, each) for each, _ in tried]
        for (_, value), m, t in zip(tried, measured, told, strict=False):
            checks.append(Check(f"floor of |∇h|², {letter} = {value:g}", "equals", t, m, tolerance=1e-4))
        lines = [Line("measured", [v for _, v in tried], measured), Line("fixed point", values, told, False)]
        pictures.append(Picture(f"Floor of |∇h|² against {letter}", letter, lines, log_x=letter.startswith("T")))
        if letter.startswith("T"):
            checks += [
                Check(f"the floor at T = {a:g} is below that at T = {b:g}", "at most", high, low)
                for a, b, low, high in zip(values, values[1:], told, told[1:], strict=False)
            ]
    checks += [*_geometric(bed), _warm(bed)]
    return Finding(checks, pictures)


class Fixed(NamedTuple):
    """Where the iteration stands still: |grad h|² there, and the largest stretch of the step's linear part."""

    floor: float
    stretch: float


def fixed_point(bed: Quadratic, settings: Settings) -> Fixed:
    """Where noiseless Algorithm 1 stands still.

    The decoded y is y_x + (I − γH)^I_dec (y_0 − y_x), the sum of the gradients over the steps is
    K sum_i (I − ηK)^i (y − b), and encode applies A' tau sum_q (I − tau H)^q: x enters linearly.
    """
    eye, factor, offset = torch.eye(bed.sizes[0]), torch.zeros(()), torch.zeros(())
    for m in range(bed.clients):
        hessian, curve = bed.hessian[m], bed.root[m].mT @ bed.root[m]
        reached = eye - torch.linalg.matrix_power(eye - settings.decode_lr * hessian, settings.decode_steps)
        gone = sum(
            (torch.linalg.matrix_power(eye - settings.lr * curve, i) for i in range(settings.steps)), torch.zeros(())
        )
        encode = bed.cross[m].mT @ series(hessian, settings) @ gone
        decode = reached @ torch.linalg.inv(hessian)
        factor = factor + encode @ curve @ decode @ bed.cross[m]
        offset = offset + encode @ (curve @ decode @ bed.shift[m] - bed.root[m].mT @ bed.target[m])
    x = -torch.linalg.solve(factor, offset)
    floor = float(bed.gradient(x[None]).square().sum())
    return Fixed(floor, float(torch.linalg.matrix_norm(factor, 2)) / bed.clients)


def final(bed: Quadratic, settings: Settings, count: int) -> tuple[Tensor, Moment]:
    """x after ``count`` rounds without noise, and the moment of the last of them."""
    played = list(rounds(bed, settings, count, watch=(count - 1,)))
    return played[-1].x, played[-2]


def _end(bed: Quadratic, settings: Settings) -> float:
    """|grad h|² after the server's steps, from the minimum of h, where nothing but the floor is left."""
    settings = replace(settings, server_lr=1 / (settings.lr * fixed_point(bed, settings).stretch))
    x, _ = final(bed.starting_at(bed.minimiser()), settings, _ROUNDS)
    return float(bed.gradient(x).square().sum())


def _geometric(bed: Quadratic) -> list[Check]:
    """The rates at which the floors fall, by the smallest eigenvalue, far enough out for it to lead."""
    made: list[Check] = []
    for letter, name, rate in (("Q", "terms", 1 - _EXACT.tau * bed.mu), ("I_dec", "decode_steps", 1 - 0.5 * bed.mu)):
        exact = replace(_EXACT, terms=60, decode_steps=120)
        far = [fixed_point(bed, replace(exact, **{name: n})).floor for n in (18, 22)]
        what = f"factor by which the floor falls for one more of {letter}"
        made.append(Check(what, "equals", rate**2, (far[1] / far[0]) ** 0.25, tolerance=0.01))
    return made


def _warm(bed: Quadratic) -> Check:
    """A client that starts to decode at its last y has no floor from I_dec: x_t settles, and decode goes on."""
    settings = replace(_EXACT, decode_steps=2, warm_start=True)
    settings = replace(settings, server_lr=0.6 / (settings.lr * bed.lipschitz))
    x, _ = final(bed, settings, 3 * _ROUNDS)
    told = fixed_point(bed, settings).floor
    # what is left is the floor of Q alone
    series_only = fixed_point(bed, replace(settings, decode_steps=200)).floor
    got = float(bed.gradient(x).square().sum())
    what = f"|∇h|² with a warm start, I_dec = 2: the floor of Q alone, where a cold start has {told:.3g}"
    return Check(what, "equals", series_only, got, tolerance=1e-4)
