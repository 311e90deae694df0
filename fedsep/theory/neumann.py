"""Eq. (3) and Proposition 3.5: the factor of the Neumann series, its bias and its variance."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from fedsep.random import key, normal
from fedsep.theory.direct import encoded, standard_error
from fedsep.theory.finding import Check, Finding, Line, Picture, Scale
from fedsep.theory.moments import moments, reuse_bias, series
from fedsep.theory.quadratic import Noise, Quadratic, quadratic
from fedsep.theory.settings import Settings

_NOISE = Noise(hessian=0.12, cross=0.12)


def neumann_factor(scale: Scale, seed: int) -> Finding:
    """Eq. (3): along an eigenvector of d_yy g with eigenvalue λ the series errs by exactly (1 - τλ)^(Q+1)."""
    bed, settings = quadratic(seed, clients=1), Settings()
    values, vectors = torch.linalg.eigh(bed.hessian[0])
    checks: list[Check] = []
    lines: list[Line] = []
    terms = (0, 1, 2, 4, 8, 16, 24)
    for value, vector in zip(values, vectors.T, strict=True):
        left = [_left(bed, replace(settings, terms=q), vector, float(value)) for q in terms]
        told = [float((1 - settings.tau * value) ** (q + 1)) for q in terms]
        for q, m, t in zip(terms, left, told, strict=True):
            # what is measured is 1 - (what the series gave): rounding is of the size of the last digit of 1
            checks.append(Check(f"error at λ = {value:.2f}, Q = {q}", "equals", t, m, error=1e-14))
        lines += [Line(f"λ = {value:.2f}", terms, left), Line(f"(1 − τλ)^(Q+1), λ = {value:.2f}", terms, told, False)]
    return Finding(checks, [Picture("Relative error of the Neumann series", "Q", lines)])


def _left(bed: Quadratic, settings: Settings, vector: Tensor, value: float) -> float:
    got = encoded(bed, 0, settings, torch.zeros(len(vector)), vector, bed.start, 1, 0)[0]
    exact = bed.cross[0].mT @ vector / value
    return float(1 - got @ exact / (exact @ exact))


def encode_bias(scale: Scale, seed: int) -> Finding:
    """Proposition 3.5: fresh minibatches leave the bias of the series, κ(1 − τμ)^(Q+1) at most; reuse adds 1/b_x."""
    bed = quadratic(seed, clients=1, noise=_NOISE)
    y, v = torch.zeros(bed.sizes[0]), normal(key(seed + 50), bed.sizes[0])
    exact, checks = bed.jacobian[0].mT @ v, list[Check]()
    terms, measured, told = (0, 1, 2, 4, 8), list[float](), list[float]()
    for q in terms:
        settings = Settings(terms=q, encode_batch=4)
        bias = bed.cross[0].mT @ (series(bed.hessian[0], settings) @ v) - exact
        along = (encoded(bed, 0, settings, y, v, bed.start, scale.draws, seed) - exact) @ bias / bias.norm()
        measured.append(float(along.mean().abs()))
        told.append(float(bias.norm()))
        checks.append(Check(f"bias, b_x = 4, Q = {q}", "equals", told[-1], float(along.mean()), standard_error(along)))
        limit = (1 - settings.tau * bed.mu) ** (q + 1) / bed.mu * float(v.norm())
        checks.append(Check(f"bias against G_1, Q = {q}", "at most", limit, told[-1]))
    picture = Picture(
        "Bias of encode", "Q", [Line("measured, b_x = 4", terms, measured), Line("predicted", terms, told, False)]
    )
    again, drawn = _reuse(bed, y, v, scale, seed)
    return Finding([*checks, *again], [picture, drawn])


def _reuse(bed: Quadratic, y: Tensor, v: Tensor, scale: Scale, seed: int) -> tuple[list[Check], Picture]:
    """The extra bias of one minibatch in all factors, along its predicted direction."""
    fresh = Settings(terms=8)
    lead = reuse_bias(bed, 0, fresh) @ v
    mean = bed.cross[0].mT @ (series(bed.hessian[0], fresh) @ v)
    checks, batches = list[Check](), (8, 16)
    measured, told = list[float](), list[float]()
    for batch in batches:
        for reuse in (True, False):
            settings = replace(fresh, encode_batch=batch, reuse=reuse)
            along = (encoded(bed, 0, settings, y, v, bed.start, scale.draws, seed + 7) - mean) @ lead / lead.norm()
            error, label = standard_error(along), "one minibatch in all factors" if reuse else "fresh minibatches"
            expected = float(lead.norm()) / batch if reuse else 0.0
            # the prediction is the leading order in 1/b_x: the next one is smaller by a factor of that order
            checks.append(
                Check(f"extra bias, b_x = {batch}, {label}", "equals", expected, float(along.mean()), error, 2 / batch)
            )
            if reuse:
                measured.append(float(along.mean()))
                told.append(expected)
    lines = [Line("measured", batches, measured), Line("leading order in 1/b_x", batches, told, False)]
    return checks, Picture("Extra bias of one minibatch in all factors", "b_x", lines, log_x=True)


def encode_variance(scale: Scale, seed: int) -> Finding:
    """Proposition 3.5: the variance of encode is that of independent products, G_2²/b_x to leading order."""
    bed = quadratic(seed, clients=1, noise=_NOISE)
    y, v = torch.zeros(bed.sizes[0]), normal(key(seed + 50), bed.sizes[0])
    batches, measured, told, checks = (1, 2, 4, 8, 16, 32), list[float](), list[float](), list[Check]()
    last = 0.0
    for batch in batches:
        settings = Settings(terms=4, encode_batch=batch)
        got = encoded(bed, 0, settings, y, v, bed.start, scale.draws, seed)
        off = (got - moments(bed, 0, settings).mean @ v).square().sum(-1)
        told.append(float(v @ moments(bed, 0, settings).spread @ v))
        measured.append(float(off.mean()))
        last = standard_error(off)
        checks.append(Check(f"variance, b_x = {batch}", "equals", told[-1], measured[-1], last))
    what = "b_x times the variance at b_x = 32, against G_2²"
    checks.append(Check(what, "equals", _limit(bed, v), 32 * measured[-1], 32 * last, 1 / 32))
    checks += _one_encode(bed, y, scale, seed)
    lines = [Line("measured", batches, measured), Line("predicted", batches, told, False)]
    leading = [told[-1] * batches[-1] / batch for batch in batches]
    lines.append(Line("1/b_x", batches, leading, False))
    return Finding(checks, [Picture("Variance of encode", "b_x", lines, log_x=True)])


def _limit(bed: Quadratic, v: Tensor) -> float:
    """G_2²: b_x times the variance as b_x grows, which leaves the leading order in 1/b_x."""
    many = 10**6
    return many * float(v @ moments(bed, 0, Settings(terms=4, encode_batch=many)).spread @ v)


def _one_encode(bed: Quadratic, y: Tensor, scale: Scale, seed: int) -> list[Check]:
    """Line 18 encodes once for all I steps: the noise is common to them, and its variance grows as I², not as I."""
    checks, settings = list[Check](), Settings(terms=4, encode_batch=8, lr=0.05)
    for steps in (2, 4, 8):
        at, slopes = y, list[Tensor]()
        for _ in range(steps):
            slopes.append(bed.slopes(at[None, None])[0, 0])
            at = at - settings.lr * slopes[-1]
        law = moments(bed, 0, settings)
        total = torch.stack(slopes).sum(0)
        off = (
            (encoded(bed, 0, settings, y, total, bed.start, scale.draws, seed + steps) - law.mean @ total)
            .square()
            .sum(-1)
        )
        apart = sum(float(v @ law.spread @ v) for v in slopes)
        told = float(total @ law.spread @ total) / apart
        what = f"variance of one encode of I = {steps} steps over that of I encodes"
        checks.append(Check(what, "equals", told, float(off.mean()) / apart, standard_error(off) / apart))
    return checks
