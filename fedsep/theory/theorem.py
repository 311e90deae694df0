"""Theorem 3.7: both terms of its left side below the sum of its right side, whatever is varied."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fedsep.theory.bound import Constants, Steps, constants, corollary, terms
from fedsep.theory.finding import Check, Finding, Line, Picture, Scale
from fedsep.theory.moments import series
from fedsep.theory.quadratic import Noise, Quadratic, quadratic
from fedsep.theory.rounds import Moment, rounds
from fedsep.theory.settings import Settings

NOISE = Noise(0.1, 0.1, 0.3, 0.3)
EXAMPLES = 64
_VARIED: dict[str, tuple[Any, ...]] = {
    "clients": (2, 8),
    "encode_batch": (1, 16),
    "batch": (1, 16),
    "steps": (1, 6),
    "lr": (0.1, 0.5),
    "decode_lr": (0.1, 0.9),
    "decode_steps": (1, 16),
    "terms": (0, 8),
}
"""Besides the base, M = 3, b_x = b_y = 4, I = 3, I_dec = 8, Q = 4; eta is the corollary's times a factor."""
_LETTERS = {
    "clients": "M", "encode_batch": "b_x", "batch": "b_y", "steps": "I", "lr": "η factor",
    "decode_lr": "γ", "decode_steps": "I_dec", "terms": "Q",
}  # fmt: skip


@dataclass(frozen=True)
class Left:
    """The two terms of the theorem's left side: means over rounds and replicates."""

    gradient: float
    step: float


def left(bed: Quadratic, settings: Settings, seen: list[Moment]) -> Left:
    """E|grad h(x_t)|², and half the mean over i of E|E_ξ[the mean encoded step i]|²."""
    mean = torch.stack([bed.cross[m].mT @ series(bed.hessian[m], settings) for m in range(bed.clients)])
    gradient = torch.stack([bed.gradient(one.x).square().sum(-1).mean() for one in seen]).mean()
    steps = [_steps(bed, mean, one.path).square().sum(-1).mean() for one in seen]
    return Left(float(gradient), 0.5 * float(torch.stack(steps).mean()))


def _steps(bed: Quadratic, mean: Tensor, path: Tensor) -> Tensor:
    """E_ξ[the mean over clients of the encoded gradient at ŷ_i], shape (I, replicates, p)."""
    return torch.stack([torch.einsum("mpd,mrd->rp", mean, bed.slopes(at)) / bed.clients for at in path])


def tuned(bed: Quadratic, settings: Settings, count: int, factor: float = 1.0) -> tuple[Constants, Settings]:
    """The settings with the corollary's rates, from constants at x_1; η times a factor of at most 1."""
    first = next(rounds(bed, replace(settings, steps=1), 1))
    at = constants(bed, settings, [first])
    steps: Steps = corollary(at, settings, count)
    return at, replace(settings, decode_lr=steps.decode_lr, lr=factor * steps.lr, server_lr=steps.server_lr)


def measure(bed: Quadratic, settings: Settings, count: int, scale: Scale, seed: int) -> tuple[Left, Constants]:
    """A run's left side, and the constants of its trajectory."""
    played = list(rounds(bed, settings, count, seed=seed, copies=scale.replicates, examples=EXAMPLES))[:-1]
    return left(bed, settings, played), constants(bed, settings, played)


def theorem_bound(scale: Scale, seed: int) -> Finding:
    """Theorem 3.7: mean squared gradients and steps stay below the corrected bound, with the corollary's rates."""
    checks, pictures = list[Check](), list[Picture]()
    base, known, settings = _point("", None, scale, seed)
    checks += _checks("base", base, known, settings, scale.rounds)
    parts = terms(known, settings, scale.rounds)
    checks += [Check(f"the bound's term: {part}", "reported", size, float("nan")) for part, size in parts.items()]
    for name, values in _VARIED.items():
        points: list[tuple[float, Left, float]] = []
        for value in values if scale.every_value else values[-1:]:
            got, known, settings = _point(name, value, scale, seed)
            checks += _checks(f"{_LETTERS[name]} = {value}", got, known, settings, scale.rounds)
            points.append((float(value), got, sum(terms(known, settings, scale.rounds).values())))
        pictures.append(_picture(_LETTERS[name], points))
    return Finding(checks, pictures)


def _checks(what: str, got: Left, known: Constants, settings: Settings, count: int) -> list[Check]:
    """The claim, and apart from it what each term of the left side is and what the paper's own bound says."""
    total, written = (sum(terms(known, settings, count, printed=printed).values()) for printed in (False, True))
    both = got.gradient + got.step
    return [
        Check(f"left side, {what}", "at most", total, both),
        Check(f"first term alone, {what}", "reported", total, got.gradient),
        Check(f"second term alone, {what}", "reported", total, got.step),
        Check(f"left side against the bound as printed, {what}", "reported", written, both),
    ]


def _picture(letter: str, points: list[tuple[float, Left, float]]) -> Picture:
    x = [value for value, _, _ in points]
    lines = [
        Line("first term", x, [got.gradient for _, got, _ in points]),
        Line("second term", x, [got.step for _, got, _ in points]),
        Line("bound", x, [total for _, _, total in points], False),
    ]
    return Picture(f"Theorem 3.7 when {letter} is varied", letter, lines)


def _point(name: str, value: Any, scale: Scale, seed: int) -> tuple[Left, Constants, Settings]:
    """One argument changed, the others at their base values, the rates those of the corollary."""
    bed = quadratic(seed, clients=value if name == "clients" else 3, mu=0.5, noise=NOISE)
    base = Settings(terms=4, encode_batch=4, batch=4, decode_steps=8)
    changed = {} if name in ("", "clients", "lr", "decode_lr") else {name: value}
    _, settings = tuned(bed, replace(base, **changed), scale.rounds, value if name == "lr" else 1.0)
    settings = replace(settings, decode_lr=value) if name == "decode_lr" else settings
    got, known = measure(bed, settings, scale.rounds, scale, seed)
    return got, known, settings
