"""Whole numbers of a few bits each, packed into bytes without a gap, and back."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad


def packed_bytes(count: int, width: int) -> int:
    """Bytes that ``count`` codes of ``width`` bits take."""
    return -(-count * width // 8)


def pack(codes: Tensor, width: int) -> Tensor:
    """Codes in 0 .. 2**width - 1, shape (n,), as uint8 of shape (ceil(n width / 8),).

    The bits of a code follow those of the code before, the lowest first, and fill every byte from its lowest bit.

    Args:
        codes: Whole numbers, any integer dtype (bool for one bit).
        width: Bits per code, 0 to 63; nothing is sent at 0.
    """
    if width > 8:
        return _join(_digits(codes, width), 1)
    return _join(codes, width)


def unpack(packed: Tensor, width: int, count: int) -> Tensor:
    """The inverse of ``pack``: ``count`` codes, uint8 up to 8 bits and int64 above, shape (count,)."""
    if width > 8:
        digits = _split(packed, 1)[: count * width].reshape(count, width)
        return _join(pad(digits, (0, 64 - width)).reshape(-1), 1).view(torch.int64)
    if width == 0:
        return torch.zeros(count, dtype=torch.uint8, device=packed.device)
    return _split(packed, width)[:count]


class _Word(NamedTuple):
    """The shortest whole number that a number of codes fill up to a byte."""

    codes: int
    dtype: torch.dtype
    bytes: int


def _word(width: int) -> _Word:
    return _Word(8 // width, torch.uint8, 1) if width in (1, 2, 4, 8) else _Word(8, torch.int64, width)


def _join(codes: Tensor, width: int) -> Tensor:
    """Codes of at most 8 bits, several of them at a time as one number."""
    word = _word(width)
    groups = pad(codes.to(torch.uint8), (0, -codes.numel() % word.codes)).reshape(-1, word.codes)
    words = (groups.to(word.dtype) << _places(width, codes)).sum(1, dtype=word.dtype)
    octets = words.reshape(-1, 1).view(torch.uint8)[:, : word.bytes].reshape(-1)
    return octets[: packed_bytes(codes.numel(), width)].clone()


def _split(packed: Tensor, width: int) -> Tensor:
    """The inverse of ``_join``, as uint8, with what the last word was filled up with."""
    word = _word(width)
    octets = pad(packed, (0, -packed.numel() % word.bytes)).reshape(-1, word.bytes)
    words = pad(octets, (0, word.dtype.itemsize - word.bytes)).view(word.dtype)
    return ((words >> _places(width, packed)) & ((1 << width) - 1)).to(torch.uint8).reshape(-1)


def _digits(codes: Tensor, width: int) -> Tensor:
    """The bits of all codes one after the other, as uint8 of shape (n width,)."""
    octets = codes.to(torch.int64).reshape(-1, 1).view(torch.uint8)
    return _split(octets.reshape(-1), 1).reshape(-1, 64)[:, :width].reshape(-1)


def _places(width: int, like: Tensor) -> Tensor:
    word = _word(width)
    return width * torch.arange(word.codes, dtype=word.dtype, device=like.device)
