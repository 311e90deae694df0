"""Lemmas C.4 and C.5: the errors of decode and the drift of the learning stage."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from fedsep.theory.direct import decoded, learned, standard_error
from fedsep.theory.finding import Check, Finding, Line, Picture, Scale, slope
from fedsep.theory.quadratic import Noise, Quadratic, quadratic
from fedsep.theory.settings import Settings


def decode_contraction(scale: Scale, seed: int) -> Finding:
    """Lemma C.4: the error of decode contracts by 1 − γλ a step along an eigenvector, down to γσ²/(λ(2 − γλ)b_y)."""
    bed = quadratic(seed, clients=1, noise=Noise(shift=0.5))
    values, vectors = torch.linalg.eigh(bed.hessian[0])
    exact = bed.solution(bed.start[None])[0, 0]
    first, checks = -exact @ vectors, list[Check]()
    steps = (1, 2, 4, 8, 16, 32)
    quiet = [(decoded(bed, 0, Settings(decode_steps=n), bed.start, 1, 0)[0] - exact) @ vectors for n in steps]
    for n, left in zip(steps, quiet, strict=True):
        for at, value in enumerate(values):
            told = float(first[at] * (1 - 0.5 * value) ** n)
            what = f"error along λ = {value:.2f} after {n} steps"
            checks.append(Check(what, "equals", told, float(left[at]), error=1e-14))
    lines: list[Line] = []
    for batch in (1, 4):
        more, drawn = _noisy(bed, values, vectors, first, steps, batch, scale, seed)
        checks += more
        lines += drawn
    return Finding(checks, [Picture("Mean squared error of decode", "I_dec", lines, log_x=True)])


def _noisy(
    bed: Quadratic,
    values: Tensor,
    vectors: Tensor,
    first: Tensor,
    steps: tuple[int, ...],
    batch: int,
    scale: Scale,
    seed: int,
) -> tuple[list[Check], list[Line]]:
    """The same with minibatches: mean squares by eigenvector, and the lemma's bound on their sum."""
    rate, variance = 0.5, bed.noise.shift**2 / batch
    exact, checks = bed.solution(bed.start[None])[0, 0], list[Check]()
    measured, told, bounds = list[float](), list[float](), list[float]()
    shrink = (1 - rate * values) ** 2
    for n in steps:
        settings = Settings(decode_steps=n, decode_lr=rate, batch=batch)
        squares = ((decoded(bed, 0, settings, bed.start, scale.draws, seed + n) - exact) @ vectors).square()
        floor = rate**2 * variance / (1 - shrink)  # γσ² / (λ (2 − γλ) b_y), σ² the variance along the eigenvector
        expected = shrink**n * first.square() + floor * (1 - shrink**n)
        for at, value in enumerate(values):
            what = f"mean square along λ = {value:.2f} after {n} steps, b_y = {batch}"
            error = standard_error(squares[:, at])
            checks.append(Check(what, "equals", float(expected[at]), float(squares[:, at].mean()), error))
        measured.append(float(squares.sum(-1).mean()))
        told.append(float(expected.sum()))
        mu, total = float(values[0]), variance * len(values)
        bounds.append((1 - mu * rate) ** n * float(first.square().sum()) + rate * total / mu)
        checks.append(Check(f"the lemma's bound after {n} steps, b_y = {batch}", "at most", bounds[-1], measured[-1]))
    label = f"b_y = {batch}"
    return checks, [
        Line(f"measured, {label}", steps, measured),
        Line(f"predicted, {label}", steps, told, False),
        Line(f"bound, {label}", steps, bounds, False),
    ]


def drift(scale: Scale, seed: int) -> Finding:
    """Lemma C.5: E|ŷ_i − ŷ_0|² is at most 2 i²η²C_f + 2 iη²σ²/b_y; without noise it tends to i²η²|∇f|²."""
    bed = quadratic(seed, clients=1, noise=Noise(target=0.5))
    y = torch.zeros(bed.sizes[0])
    checks, lines = list[Check](), list[Line]()
    counts, rates = (1, 2, 4, 8, 16), (0.001, 0.01, 0.1)
    for rate in rates:
        settings = Settings(lr=rate)
        moved = [learned(bed, 0, replace(settings, steps=i), y, 1, 0)[0] - y for i in counts]
        for i, move in zip(counts, moved, strict=True):
            told = _path(bed, y, rate, i) - y
            error = float((move - told).norm() / told.norm())
            checks.append(Check(f"closed form, η = {rate}, I = {i}: relative difference", "at most", 1e-9, error))
        squares = [float(move.square().sum()) for move in moved]
        limits = [(i * rate) ** 2 * _largest(bed, y, rate, i) for i in counts]
        pairs = zip(counts, squares, limits, strict=True)
        checks += [Check(f"drift, η = {rate}, I = {i}", "at most", limit, square) for i, square, limit in pairs]
        lines += [Line(f"measured, η = {rate}", counts, squares), Line(f"I²η²C_f, η = {rate}", counts, limits, False)]
        if rate == min(rates):
            grown = slope(counts, squares)
            checks.append(Check(f"exponent of I at η = {rate}", "equals", 2.0, grown, tolerance=rate * max(counts)))
    checks += _noisy_drift(bed, y, scale, seed)
    return Finding(checks, [Picture("Drift of the learning stage, full batches", "I", lines, log_x=True)])


def _noisy_drift(bed: Quadratic, y: Tensor, scale: Scale, seed: int) -> list[Check]:
    checks, variance = list[Check](), bed.noise.target**2 * float(bed.root[0].square().sum())
    for batch in (1, 4):
        for i in (1, 4, 16):
            settings = Settings(lr=0.1, steps=i, batch=batch)
            mean = float((learned(bed, 0, settings, y, scale.draws, seed + i) - y).square().sum(-1).mean())
            limit = 2 * 0.01 * (i**2 * _largest(bed, y, 0.1, i) + i * variance / batch)
            checks.append(Check(f"drift, η = 0.1, b_y = {batch}, I = {i}", "at most", limit, mean))
    return checks


def _path(bed: Quadratic, y: Tensor, rate: float, steps: int) -> Tensor:
    """ŷ_i in closed form: the distance to f's minimiser is multiplied by (I − ηK)^i."""
    curve = bed.root[0].mT @ bed.root[0]
    best = torch.linalg.solve(curve, bed.root[0].mT @ bed.target[0])
    return best + torch.linalg.matrix_power(torch.eye(len(y)) - rate * curve, steps) @ (y - best)


def _largest(bed: Quadratic, y: Tensor, rate: float, steps: int) -> float:
    """C_f: the largest squared gradient on the path, since a quadratic's is bounded nowhere else."""
    points = torch.stack([_path(bed, y, rate, i) for i in range(steps)])
    return float(bed.slopes(points[None]).square().sum(-1).max())
