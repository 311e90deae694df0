"""Corollary 3.8: its step sizes, the rate T^-1/2, what η_g = 1/(2 I L) does, and how many rounds ε takes."""

from __future__ import annotations

from dataclasses import replace

import torch

from fedsep.theory.bound import constants, terms
from fedsep.theory.finding import Check, Finding, Line, Picture, Scale, slope
from fedsep.theory.quadratic import Noise, Quadratic, quadratic
from fedsep.theory.rounds import rounds
from fedsep.theory.settings import Settings
from fedsep.theory.theorem import EXAMPLES, left, tuned

_NOISE = Noise(hessian=0.08, cross=0.6)
_BASE = Settings(terms=5, encode_batch=1, decode_steps=8, steps=1)


def corollary_rate(scale: Scale, seed: int) -> Finding:
    """Corollary 3.8: with its step sizes the left side is below the bound at every T, and falls as T^-1/2."""
    bed = quadratic(seed, clients=2, mu=0.5, noise=_NOISE)
    checks, means, bounds, floors = list[Check](), list[float](), list[float](), list[float]()
    for count in scale.horizons:
        # γ = 1/(2L) for every T: with γ ~ T^-1/2 and I_dec fixed there is a floor that rises (see ``corollary_floor``)
        _, settings = tuned(bed, _BASE, count)
        settings = replace(settings, decode_lr=0.5)
        some = range(0, count, max(1, count // 16))
        played = list(rounds(bed, settings, count, seed=seed, copies=scale.replicates, examples=EXAMPLES, watch=some))
        seen = [one for one in played if len(one.path)]
        gradient = torch.stack([bed.gradient(one.x).square().sum(-1).mean() for one in played[:-1]]).mean()
        parts = terms(constants(bed, settings, seen), settings, count)
        means.append(float(gradient) + left(bed, settings, seen).step)
        bounds.append(sum(parts.values()))
        floors.append(parts["Neumann bias"] + parts["decode"])
        checks += [
            Check(f"left side, T = {count}", "at most", bounds[-1], means[-1]),
            Check(f"η of the corollary, T = {count}", "reported", float("nan"), settings.lr),
        ]
    falls = [bound - floor for bound, floor in zip(bounds, floors, strict=True)]
    checks += [
        Check("exponent of T, measured", "reported", -0.5, slope(scale.horizons, means)),
        Check("exponent of T of the bound without its floor", "reported", -0.5, slope(scale.horizons, falls)),
        *_printed(bed),
    ]  # fmt: skip
    lines = [Line("measured", scale.horizons, means), Line("bound", scale.horizons, bounds, False)]
    lines.append(
        Line("T^-1/2", scale.horizons, [means[0] * (scale.horizons[0] / t) ** 0.5 for t in scale.horizons], False)
    )
    told, drawn = _epsilon(bed)
    return Finding([*checks, *told], [Picture("Corollary 3.8: the left side against T", "T", lines, log_x=True), drawn])


def _printed(bed: Quadratic) -> list[Check]:
    """η = 1, η_g = 1/(2 I L): with L as printed x runs away where Lbar > 4 L; with Lbar it does not."""
    steep = quadratic(0, clients=2, mu=0.2)
    made: list[Check] = []
    for name, smooth, relation in (("L as printed", 1.0, "reported"), ("L̄", steep.lipschitz, "at most")):
        settings = Settings(terms=10, decode_steps=12, steps=1, lr=1.0, server_lr=1 / (2 * smooth))
        played = list(rounds(steep, settings, 12, watch=()))
        ratio = float(steep.gradient(played[-1].x).norm() / steep.gradient(played[0].x).norm())
        made.append(Check(f"growth of |∇h| in 12 rounds with {name}, L̄ = {steep.lipschitz:.1f}", relation, 1.0, ratio))  # type: ignore[arg-type]
    return made


def _epsilon(bed: Quadratic) -> tuple[list[Check], Picture]:
    """Rounds until |grad h|² was at most ε, without noise and far above the floor: 4 Lbar (h(x_1) − inf h) / (η ε)."""
    settings = replace(_BASE, encode_batch=None, terms=10, decode_steps=16, lr=0.5, server_lr=1 / (2 * bed.lipschitz))
    squares = [float(bed.gradient(one.x).square().sum()) for one in rounds(bed, settings, 30, watch=())]
    targets, taken, limits = (10.0, 1.0, 0.1), list[float](), list[float]()
    for target in targets:
        reached = [number for number, square in enumerate(squares) if square <= target]
        taken.append(float(reached[0]) if reached else float("nan"))
        limits.append(4 * bed.lipschitz * bed.gap() / (settings.lr * target))
    made = [
        Check(f"rounds until |∇h|² ≤ {target:g}, I = 1, no noise", "at most", limit, count)
        for target, limit, count in zip(targets, limits, taken, strict=True)
    ]
    lines = [Line("measured", targets, taken), Line("4 L̄ (h(x_1) − inf h) / (η ε)", targets, limits, False)]
    return made, Picture("Rounds to reach ε", "ε", lines, log_x=True)
