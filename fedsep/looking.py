"""Looking at numbers that lie on a device: the host waits until they are computed, so it looks at many at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fedsep.core import Tree

Identity = tuple[int, int, torch.dtype, torch.Size, tuple[int, ...]]
"""Address, version, dtype, shape and strides: two tensors with equal ones, while both live, have equal values."""


def identity(tensor: Tensor) -> Identity:
    """What tells a tensor from another without a look at its values."""
    version = 0 if tensor.is_inference() else tensor._version
    return tensor.data_ptr(), version, tensor.dtype, tensor.shape, tensor.stride()


def far(value: Tensor) -> bool:
    """Whether to look at a tensor is to wait for a device."""
    return not value.is_cpu


def look(scalars: Sequence[Tensor]) -> list[float]:
    """The numbers of 0-dim tensors; of those on a device, by one transfer for each type."""
    for scalar in scalars:
        if far(scalar):
            return _together(scalars)
    return [scalar.item() for scalar in scalars]


def _together(scalars: Sequence[Tensor]) -> list[float]:
    kinds: dict[tuple[torch.dtype, torch.device], list[int]] = {}
    for number, scalar in enumerate(scalars):
        kinds.setdefault((scalar.dtype, scalar.device), []).append(number)
    found: dict[int, float] = {}
    for numbers in kinds.values():
        found.update(zip(numbers, torch.stack([scalars[number] for number in numbers]).tolist(), strict=True))
    return [found[number] for number in range(len(scalars))]


def sent(numbers: Sequence[int], device: torch.device) -> Tensor:
    """Whole numbers on a device, int64; the host does not wait until they are there."""
    here = torch.tensor(numbers, dtype=torch.int64, device="cpu")
    return here.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else here.to(device)


def floats(values: Tree) -> list[Tensor]:
    """The floating-point leaves of a tree, which may hold anything else, too."""
    # By hand: this is asked for every reply, and pytree takes several times as long.
    if isinstance(values, Tensor):
        return [values] if values.is_floating_point() else []
    if isinstance(values, dict):
        values = values.values()
    elif not isinstance(values, list | tuple):
        return []
    found: list[Tensor] = []
    for part in values:
        if isinstance(part, Tensor):
            if part.is_floating_point():
                found.append(part)
        else:
            found += floats(part)
    return found


def sums(parts: Sequence[Tensor]) -> list[Tensor]:
    """Scalars by which one sees whether tensors are finite: see ``all_finite``."""
    return [part.sum() for part in parts]


def all_finite(parts: Sequence[Tensor], summed: Sequence[float]) -> bool:
    """Whether all numbers of some tensors are finite, given their ``sums``, which have been looked at.

    A sum is finite unless one of its terms is not, or it overflows: only then is each number looked at.
    """
    if math.isfinite(sum(summed)):
        return True
    suspects = [part for part, total in zip(parts, summed, strict=True) if not math.isfinite(total)]
    return all(look([torch.isfinite(part).all() for part in suspects]))


def finite(values: Tree) -> bool:
    """Whether all floats of a tree are finite."""
    parts = floats(values)
    return not parts or all_finite(parts, look(sums(parts)))
