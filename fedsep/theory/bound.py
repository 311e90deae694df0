"""The right side of Theorem 3.7, term by term, and the step sizes of Corollary 3.8."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fedsep.theory.moments import moments
from fedsep.theory.quadratic import Quadratic
from fedsep.theory.rounds import Moment
from fedsep.theory.settings import Settings


@dataclass(frozen=True)
class Constants:
    """What the theorem's constants are on the first bed, with L = 1 and Lhat = 0 (g is quadratic).

    Attributes:
        clients: M.
        mu: The strong convexity of g.
        lipschitz: Lbar.
        gap: h(x_1) − inf h.
        slope: C_f, the largest squared gradient of f that was met.
        spread: The largest E|(Ê − E Ê) v|² over |v| = 1 with the run's b_x; times C_f it is the paper's G_2²/b_x.
        target: σ² of f's gradient for one example.
        decode: σ² of g's gradient in y for one example, at its largest.
        start: C_0, twice the largest |y_0 − y_x|² that was met.
    """

    clients: int
    mu: float
    lipschitz: float
    gap: float
    slope: float
    spread: float
    target: float
    decode: float
    start: float


def constants(bed: Quadratic, settings: Settings, seen: Sequence[Moment]) -> Constants:
    """The constants, with what no quadratic bounds (gradients, distances) taken as the largest on the trajectory."""
    noise, d = bed.noise, bed.sizes[0]
    exact = [bed.solution(one.x) for one in seen]
    slopes = [bed.slopes(at).square().sum(-1).max() for one in seen for at in one.path]
    ends = [
        max(float(y.square().sum(-1).max()) for y in (one.first, one.path[0], at))
        for one, at in zip(seen, exact, strict=True)
    ]
    x = max(float(one.x.square().sum(-1).max()) for one in seen)
    # the variance of N y − W x − c for one example: N has entries of variance s² (2 s² on the diagonal)
    decode = noise.hessian**2 * (d + 1) * max(ends) + d * (noise.cross**2 * x + noise.shift**2)
    far = max(float((one.first - at).square().sum(-1).max()) for one, at in zip(seen, exact, strict=True))
    return Constants(
        bed.clients,
        bed.mu,
        bed.lipschitz,
        bed.gap(),
        float(torch.stack(slopes).max()),
        max(float(torch.linalg.eigvalsh(moments(bed, m, settings).spread).max()) for m in range(bed.clients)),
        noise.target**2 * float(bed.root.square().sum((-2, -1)).max()) if settings.batch else 0.0,
        decode if settings.batch else 0.0,
        2 * far,
    )


def terms(c: Constants, s: Settings, count: int, *, printed: bool = False) -> dict[str, float]:
    """The theorem's terms after ``count`` rounds, by what they come from.

    ``printed`` gives the paper's terms: its noise is that of an algorithm that encodes after every local step and has
    no noise in f, and its drift that of I steps, not I - 1. The derivation is in docs/derivations/theory.md.
    """
    kappa, batch = 1 / c.mu, s.batch or 1
    pace, bend = s.lr * s.server_lr, 3 * kappa**2
    loud = c.slope + c.target / batch
    # noise of f enters later gradients through ŷ_i, which correlates steps: the part that grows with ηL
    crossed = 1 + (s.steps - 1) * s.lr * (1 + s.lr) ** s.steps
    moved = s.steps if printed else s.steps - 1  # the last gradient is taken after I - 1 steps
    bias = kappa**2 * (1 - s.tau * c.mu) ** (2 * s.terms + 2) * c.slope
    return {
        "start": 2 * c.gap / (count * s.steps * pace),
        "encode noise": pace * c.lipschitz * c.spread * loud * (1 if printed else s.steps) / c.clients,
        "learning noise": 0.0 if printed else pace * c.lipschitz * kappa**2 * c.target / batch / c.clients * crossed,
        "drift": 12 * (moved * kappa * s.lr) ** 2 * c.slope,
        "drift noise": 4 * (s.steps**2 if printed else 3 * moved) * (kappa * s.lr) ** 2 * c.target / batch,
        "decode noise": 4 * bend * s.decode_lr * c.decode / (c.mu * batch),
        "Neumann bias": 2 * bias,
        "decode": 2 * bend * (1 - c.mu * s.decode_lr) ** s.decode_steps * c.start,
    }


@dataclass(frozen=True)
class Steps:
    """Corollary 3.8's rates for T rounds."""

    decode_lr: float
    lr: float
    server_lr: float


def corollary(c: Constants, s: Settings, count: int, *, scale: float = 1.0) -> Steps:
    """γ = min(1/(2L), (C_γ T)^-1/2), η = min(1, ...), η_g = 1/(2 I Lbar): the paper's, with Lbar for its L.

    Args:
        c: The constants.
        s: b_x and b_y are read from it, and I.
        count: T.
        scale: C_γ.
    """
    kappa, noise = 1 / c.mu, c.spread * (c.slope + c.target / (s.batch or 1))  # G_2² / b_x
    # C_η; a learning stage of one step does not drift
    drifting = 12 * kappa**2 * c.slope + 4 * kappa**2 * c.target / (s.batch or 1) if s.steps > 1 else 0.0
    first = (8 * s.steps * c.clients * c.lipschitz * c.gap / (count * noise)) ** 0.5 if noise else 1.0
    second = (4 * c.lipschitz * c.gap / (drifting * s.steps**2 * count)) ** (1 / 3) if drifting else 1.0
    return Steps(min(0.5, (scale * count) ** -0.5), min(1.0, first, second), 1 / (2 * s.steps * c.lipschitz))
