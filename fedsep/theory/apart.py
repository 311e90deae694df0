"""Theorem 3.7, one term at a time: with a single source of error left on, its term alone must cover what it does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from fedsep.theory.bound import terms
from fedsep.theory.finding import Check, Finding, Line, Picture, Scale
from fedsep.theory.quadratic import Noise, quadratic
from fedsep.theory.settings import Settings
from fedsep.theory.theorem import measure


@dataclass(frozen=True)
class _Source:
    """A source of error: the bound's terms it stands for, the noise, settings that turn it on, and what is varied."""

    parts: tuple[str, ...]
    noise: Noise
    settings: dict[str, Any]
    varied: str
    values: tuple[Any, ...]
    letter: str


_QUIET = Settings(terms=14, decode_steps=32, decode_lr=0.9, steps=1, lr=0.5)
_SOURCES = (
    _Source(("start",), Noise(), {}, "lr", (0.25, 1.0), "η"),
    _Source(("encode noise",), Noise(hessian=0.15, cross=0.15), {"encode_batch": 1}, "encode_batch", (1, 4), "b_x"),
    _Source(("encode noise",), Noise(hessian=0.15, cross=0.15), {"encode_batch": 1}, "clients", (2, 6), "M"),
    _Source(("learning noise",), Noise(target=0.5), {"batch": 1}, "batch", (1, 4), "b_y"),
    _Source(("learning noise", "drift noise"), Noise(target=0.5), {"batch": 1}, "steps", (2, 5), "I"),
    _Source(("drift",), Noise(), {"steps": 4}, "lr", (0.25, 1.0), "η"),
    _Source(("drift",), Noise(), {"lr": 0.3}, "steps", (2, 6), "I"),
    _Source(("decode noise",), Noise(shift=0.5), {"batch": 1, "decode_steps": 64}, "decode_lr", (0.5, 0.9), "γ"),
    _Source(("decode noise",), Noise(shift=0.5), {"batch": 1}, "batch", (1, 4), "b_y"),
    _Source(("decode",), Noise(), {}, "decode_steps", (0, 2, 4), "I_dec"),
    _Source(("Neumann bias",), Noise(), {}, "terms", (0, 2, 4), "Q"),
)


def theorem_terms(scale: Scale, seed: int) -> Finding:
    """Theorem 3.7: with one source of error on, and x_1 at the minimum of h, its own term covers the left side."""
    checks, pictures = list[Check](), list[Picture]()
    for source in _SOURCES:
        measured, told = list[float](), list[float]()
        for value in source.values if scale.every_value else source.values[:1]:
            both, limit, rest = _one(source, value, scale, seed)
            label = " and ".join(source.parts)
            checks.append(Check(f"{label}, {source.letter} = {value}", "at most", limit + rest, both))
            measured.append(both)
            told.append(limit)
        lines = [Line("measured", source.values[: len(told)], measured)]
        lines.append(Line(" + ".join(source.parts), source.values[: len(told)], told, False))
        pictures.append(Picture(f"The term {' + '.join(source.parts)} alone", source.letter, lines))
    return Finding(checks, pictures)


def _one(source: _Source, value: Any, scale: Scale, seed: int) -> tuple[float, float, float]:
    """The left side; the terms that should cover it; what is left of the others, which is far smaller."""
    clients = value if source.varied == "clients" else 2
    bed = quadratic(seed, clients=clients, mu=0.5, noise=source.noise)
    if source.parts != ("start",):
        bed = bed.starting_at(bed.minimiser())
    settings = replace(_QUIET, **source.settings)
    if source.varied != "clients":
        settings = replace(settings, **{source.varied: value})
    settings = replace(settings, server_lr=1 / (2 * settings.steps * bed.lipschitz))
    if not settings.batch and not settings.encode_batch:
        scale = replace(scale, replicates=1)
    got, known = measure(bed, settings, scale.rounds, scale, seed)
    parts = terms(known, settings, scale.rounds)
    limit = sum(parts[name] for name in source.parts)
    return got.gradient + got.step, limit, sum(parts.values()) - limit
