"""How dense each layer is, and how much of that a client of some capability holds."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Literal, TypeVar

from torch import Tensor

from fedsep.core import Params

Scale = Literal["constant", "params", "width"]
"""How a client's density follows from its capability p: not at all, by p^2, or by p.

A layer of p n outputs and p m inputs has p^2 n m weights, so that ``params`` gives a client as many as it would have
in a model of p times the width.
"""

Distribution = Literal["erk", "uniform"]
"""Whether large layers are made sparser than small ones (Erdos-Renyi with kernels), or all alike."""

K = TypeVar("K", bound=Hashable)

_TINY = 1e-9


def share_of(scale: Scale, capability: float) -> float:
    """The part of the full density that a client holds."""
    powers: dict[Scale, int] = {"constant": 0, "width": 1, "params": 2}
    return capability ** powers[scale]


def layer_densities(params: Params, names: Iterable[str], density: float, distribution: Distribution) -> list[float]:
    """The density of each of the layers ``names``."""
    parts = [params[name] for name in names]
    return erk(parts, density) if distribution == "erk" else [density] * len(parts)


def erk(layers: list[Tensor], density: float) -> list[float]:
    """Sparsity in proportion to 1 - (sum of a layer's dimensions) / (product of them), ``density`` on the whole.

    This is FedDST's form of Erdos-Renyi with kernels; RigL has the density in proportion to the quotient instead.

    Args:
        layers: Weights, of two dimensions or more.
        density: Of all of them together.
    """
    weights = {n: max(0.0, 1 - sum(layer.shape) / layer.numel()) for n, layer in enumerate(layers)}
    sparsity = filled(weights, {n: layer.numel() for n, layer in enumerate(layers)}, 1 - density)
    return [1 - sparsity[n] for n in range(len(layers))]


def filled(weights: Mapping[K, float], sizes: Mapping[K, int], share: float) -> dict[K, float]:
    """min(1, c w_l) with c such that the mean over all coordinates is ``share``.

    Layers of weight 0 get something only when all the others are full.

    Args:
        weights: w_l, at least 0.
        sizes: Coordinates of each layer.
        share: From 0 to 1.
    """
    target, free, parts = share * sum(sizes.values()), set(weights), dict.fromkeys(weights, 0.0)
    while free and target > _TINY:
        pull = sum(weights[name] * sizes[name] for name in free)
        each = {name: target / pull * weights[name] if pull > 0 else 1.0 for name in free}
        full = {name for name in free if each[name] >= 1 - _TINY}
        if not full:
            return {**parts, **each}
        parts |= dict.fromkeys(full, 1.0)
        target -= sum(sizes[name] for name in full)
        free -= full
    return parts


def quotas(densities: Iterable[float], sizes: Iterable[int]) -> list[int]:
    """Coordinates that are kept of each layer, to the nearest whole number: at least one, so that no layer is empty."""
    return [min(size, max(1, round(density * size))) for density, size in zip(densities, sizes, strict=True)]
