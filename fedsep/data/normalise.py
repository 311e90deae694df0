"""Normalisation by training samples: images keep their bytes and get constants per channel, tables are standardised."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedsep.data.parts import Indices
from fedsep.data.source import Array, Source

_FEW = 4096
_LEVELS = np.arange(256, dtype=np.float64)


class Constants(NamedTuple):
    """What a minibatch is normalised with: (x - shift) * scale, float64, broadcast against one sample."""

    shift: Tensor | None
    scale: Tensor | None


def histogram(x: Array) -> Indices:
    """How often each value occurs in each channel of uint8 images, shape (channels, 256)."""
    counts = np.zeros((x.shape[1], 256), np.int64)
    for start in range(0, len(x), _FEW):
        for channel in range(x.shape[1]):
            counts[channel] += np.bincount(x[start : start + _FEW, channel].reshape(-1), minlength=256)
    return counts


def image_constants(source: Source, left_out: Indices) -> Constants:
    """Mean and standard deviation per channel of the images that are not left out.

    Without normalisation (``scaled`` False) pixels are divided by 255.
    """
    if source.scaled is False:
        return Constants(None, torch.tensor(1 / 255, dtype=torch.float64))
    counts = histogram(source.x) if source.histogram is None else source.histogram
    counts = (counts - histogram(source.x[left_out])).astype(np.float64)
    total = counts.sum(axis=1)
    mean = counts @ _LEVELS / total
    deviation = np.sqrt((counts * (_LEVELS - mean[:, None]) ** 2).sum(axis=1) / total)
    shape = () if len(mean) == 1 else (len(mean), 1, 1)
    return Constants(
        *(torch.from_numpy(c.reshape(shape).copy()) for c in (mean, 1 / np.where(deviation > 0, deviation, 1)))
    )


class Standard(NamedTuple):
    """Mean and factor per column, as computed from training samples."""

    mean: npt.NDArray[np.float64]
    factor: npt.NDArray[np.float64]

    def apply(self, x: Array) -> Tensor:
        """Inputs standardised, missing values at the mean, in the default float type."""
        return torch.from_numpy(np.nan_to_num((x - self.mean) * self.factor, nan=0.0)).to(torch.get_default_dtype())


def standard(source: Source, rows: Indices) -> Standard:
    """Statistics of the training rows: per column of a table, per channel of images, one for other shapes."""
    x = source.x[rows].astype(np.float64)
    axes = {2: (0,), 4: (0, 2, 3)}.get(x.ndim, tuple(range(x.ndim)))
    known = np.maximum((~np.isnan(x)).sum(axis=axes, keepdims=True), 1)
    mean = np.nansum(x, axis=axes, keepdims=True) / known
    variance = np.nansum((x - mean) ** 2, axis=axes, keepdims=True) / known
    scaled = np.broadcast_to(np.asarray(source.scaled), mean.shape)
    tiny = 1e-12 * np.maximum(np.abs(mean), 1)
    factor = np.where(scaled & (np.sqrt(variance) > tiny), 1 / np.maximum(np.sqrt(variance), tiny), 1.0)
    return Standard(np.where(scaled, mean, 0.0), factor)
