"""What is claimed after Corollary 3.8: that every client's ŷ_i becomes stationary for its own f."""

from __future__ import annotations

from dataclasses import replace

import torch

from fedsep.theory.finding import Check, Finding, Line, Picture, Scale
from fedsep.theory.floor import final
from fedsep.theory.quadratic import Quadratic, quadratic
from fedsep.theory.rounds import rounds
from fedsep.theory.settings import Settings


def client_gradients(scale: Scale, seed: int) -> Finding:
    """After Corollary 3.8: the mean over clients of the encoded gradients vanishes; each client's gradient does not."""
    bed = quadratic(seed, clients=3, mu=0.5)
    settings = Settings(terms=22, tau=0.99, decode_steps=3, decode_lr=0.9, steps=1, lr=0.5, warm_start=True)
    settings = replace(settings, server_lr=0.7 / (settings.lr * bed.lipschitz))
    count = 40
    _, last = final(bed, settings, count)
    slopes = bed.slopes(last.path[0])[:, 0]
    encoded = torch.einsum("mdp,md->mp", bed.jacobian, slopes)
    mean = float(encoded.mean(0).norm())
    checks = [
        Check(
            "norm of the mean encoded gradient at the end, against the first",
            "at most",
            1e-6 * _first(bed, settings),
            mean,
        )
    ]
    checks += [
        Check(f"|∇f(ŷ_0)| of client {m} at the end", "reported", float("nan"), float(slope.norm()))
        for m, slope in enumerate(slopes)
    ]
    least = float(slopes.norm(dim=-1).min())
    checks.append(
        Check("the mean encoded gradient against the smallest of the clients' own", "at most", 1e-6 * least, mean)
    )
    x = list(range(bed.clients))
    lines = [
        Line("|∇f(ŷ_0)|", x, [float(slope.norm()) for slope in slopes]),
        Line("mean encoded gradient", x, [mean] * len(x), False),
    ]
    return Finding(checks, [Picture("Each client's gradient at the end", "client", lines)])


def _first(bed: Quadratic, settings: Settings) -> float:
    return float(bed.gradient(next(rounds(bed, settings, 1)).x).norm())
