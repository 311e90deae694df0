"""Whole numbers of a few bits each, packed into bytes without a gap, and back."""

from __future__ import annotations

import torch
from torch import Tensor


def packed_bytes(count: int, width: int) -> int:
    """Bytes that ``count`` codes of ``width`` bits take."""
    return -(-count * width // 8)


def pack(codes: Tensor, width: int) -> Tensor:
    """Codes in 0 .. 2**width - 1, shape (n,), as uint8 of shape (ceil(n width / 8),).

    Bit t of the message is bit t % 8 of byte t // 8, and code i has bits i width .. (i + 1) width - 1, the
    lowest first. Eight codes fill ``width`` bytes, so byte j of every group is made in one pass.

    Args:
        codes: Whole numbers, any integer dtype (bool for one bit).
        width: Bits per code, 0 to 56; no byte is sent at 0.
    """
    columns = _columns(codes.reshape(-1), width)
    packed = torch.zeros(width, columns.shape[1], dtype=torch.uint8, device=codes.device)
    for byte, code, shift in _overlaps(width):
        moved = columns[code] << shift if shift >= 0 else columns[code] >> -shift
        packed[byte] |= moved if moved.dtype == torch.uint8 else (moved & 255).to(torch.uint8)
    return packed.T.reshape(-1)[: packed_bytes(codes.numel(), width)].clone()


def unpack(packed: Tensor, width: int, count: int) -> Tensor:
    """The inverse of ``pack``: ``count`` codes, uint8 up to 8 bits and int64 above, shape (count,)."""
    kind = torch.uint8 if width <= 8 else torch.int64
    groups = -(-count // 8)
    whole = torch.zeros(groups * width, dtype=torch.uint8, device=packed.device)
    whole[: packed.numel()] = packed
    columns = whole.reshape(groups, width).T.contiguous().to(kind)
    codes = torch.zeros(8, groups, dtype=kind, device=packed.device)
    for byte, code, shift in _overlaps(width):
        codes[code] |= columns[byte] >> shift if shift >= 0 else columns[byte] << -shift
    return codes.T.reshape(-1)[:count] & ((1 << width) - 1)


def _columns(codes: Tensor, width: int) -> Tensor:
    """Row i has the i-th code of every group of eight, the last group filled up with 0."""
    groups = -(-codes.numel() // 8)
    whole = torch.zeros(groups * 8, dtype=torch.uint8 if width <= 8 else torch.int64, device=codes.device)
    whole[: codes.numel()] = codes
    return whole.reshape(groups, 8).T.contiguous()


def _overlaps(width: int) -> list[tuple[int, int, int]]:
    """(byte j, code i, shift) of a group, wherever code i has bits in byte j: code << shift lies in the byte."""
    pairs = [(byte, code) for byte in range(width) for code in range(8)]
    return [(j, i, i * width - 8 * j) for j, i in pairs if i * width < 8 * j + 8 and 8 * j < (i + 1) * width]
