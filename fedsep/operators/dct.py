"""Rows of the discrete cosine transform under random signs, for any d, by the fast Fourier transform."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsep import random
from fedsep.operators.differentiable import linear
from fedsep.operators.drawing import distinct, sign_pieces
from fedsep.operators.operator import check_shape
from fedsep.operators.remember import remembered

_SIGNS, _ROWS = 0, 1  # what the key is folded with


@dataclass(frozen=True)
class SubsampledDCT:
    """See ``dct``; ``frequencies`` are the rows kept, int64, shape (p,)."""

    d: int
    frequencies: Tensor
    key: Tensor

    norm: float = 1.0
    """|S|, exactly."""
    orthonormal: bool = True
    scale: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        """(p, d)."""
        return self.frequencies.numel(), self.d

    def mv(self, v: Tensor) -> Tensor:
        """S v."""
        return linear(v, self._forward, self._transpose)

    def rmv(self, x: Tensor) -> Tensor:
        """S^T x."""
        return linear(x, self._transpose, self._forward)

    def solve(self, x: Tensor) -> Tensor:
        """x: the rows are orthonormal."""
        return x

    def _forward(self, v: Tensor) -> Tensor:
        """Row k is c_k Re(V_k exp(-i t_k)), V the spectrum of v's even entries followed by its odd ones backwards."""
        k, d = self.frequencies, self.d
        spectrum = torch.fft.rfft(self._dealt(v))
        part = spectrum[..., torch.minimum(k, d - k)]  # the upper half of a real vector's spectrum mirrors the lower
        cosine, sine = self._turn(k, v)
        return self._weight(v) * (part.real * cosine + torch.where(2 * k > d, -part.imag, part.imag) * sine)

    def _transpose(self, x: Tensor) -> Tensor:
        """The inverse of the whole transform at x / c, 0 elsewhere: V_k = exp(i t_k) (a_k - i a_(d-k)), a_d = 0."""
        k, d = self.frequencies, self.d
        spectrum = torch.zeros(*x.shape[:-1], d // 2 + 1, 2, dtype=x.dtype, device=x.device)
        a = x / (self._weight(x) * d)
        for here, mirrored in ((2 * k <= d, False), (2 * k >= d, True)):
            at = d - k[here] if mirrored else k[here]
            cosine, sine = self._turn(at, x)
            turned = torch.stack([sine, -cosine] if mirrored else [cosine, sine], -1)
            spectrum.index_add_(-2, at, a[..., here, None] * turned)
        return self._gathered(torch.fft.irfft(torch.view_as_complex(spectrum), n=d, norm="forward"))

    def _dealt(self, v: Tensor) -> Tensor:
        """v under its signs, even entries first, then the odd ones backwards; piece by piece, to spare a copy."""
        out = torch.empty_like(v)
        for here, flips in self._signs(v):
            piece = v[..., here] * flips
            first, last = here.start // 2, self.d - here.start // 2
            even, odd = piece[..., ::2], piece[..., 1::2]
            out[..., first : first + even.shape[-1]] = even
            out[..., last - odd.shape[-1] : last] = odd.flip(-1)
        return out

    def _gathered(self, mixed: Tensor) -> Tensor:
        """The transpose of ``_dealt``."""
        y = torch.empty_like(mixed)
        for here, flips in self._signs(mixed):
            first, last, half = here.start // 2, self.d - here.start // 2, flips.numel() // 2
            y[..., here.start : here.stop : 2] = mixed[..., first : first + flips.numel() - half]
            y[..., here.start + 1 : here.stop : 2] = mixed[..., last - half : last].flip(-1)
            y[..., here] *= flips
        return y

    def _signs(self, like: Tensor) -> Iterator[tuple[slice, Tensor]]:
        return sign_pieces(random.fold(self.key, _SIGNS), self.d, like.dtype)

    def _weight(self, like: Tensor) -> Tensor:
        """c_k: sqrt(2 / d), and sqrt(1 / d) of row 0."""
        return torch.where(self.frequencies == 0, self.d**-0.5, (2 / self.d) ** 0.5).to(like.dtype)

    def _turn(self, k: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine of t_k = pi k / 2d."""
        angle = k.to(torch.float64) * (math.pi / 2 / self.d)
        return angle.cos().to(like.dtype), angle.sin().to(like.dtype)


@remembered
def dct(p: int, d: int, key: Tensor) -> SubsampledDCT:
    """p rows of R C D: random signs D, the orthonormal DCT-II C, and p of its d frequencies at random, R.

    The rows are orthonormal for every d, with nothing to factorise: a new S costs p draws. E S^T S = p/d I.

    Args:
        p: Rows, at most d.
        d: Columns.
        key: Both ends draw the same S from equal keys.

    Memory:
        8 p bytes; a product takes about seven vectors of d floats for the while, most of them in the FFT.

    Raises:
        FedSepError: p > d.

    Reference:
        Makhoul 1980 for the transform by one real FFT of length d.
    """
    check_shape(p, d)
    return SubsampledDCT(d, distinct(random.fold(key, _ROWS), d, p), key)
