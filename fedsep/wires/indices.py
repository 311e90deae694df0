"""Which coordinates travel: three codes for k increasing positions below n."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

from fedsep.core import FedSepError
from fedsep.wires import bits

IndexName = Literal["int32", "packed", "golomb"]


class IndexCode(Protocol):
    """How k increasing positions below ``size`` become one tensor; both ends know k and ``size``."""

    def pack(self, positions: Tensor, size: int) -> Tensor:
        """int64 positions, increasing, shape (k,), as bytes."""
        ...

    def unpack(self, packed: Tensor, count: int, size: int) -> Tensor:
        """``count`` positions, int64."""
        ...


@dataclass(frozen=True)
class Int32:
    """Four bytes each: the convention of most papers."""

    def pack(self, positions: Tensor, size: int) -> Tensor:
        """The positions as int32.

        Raises:
            FedSepError: There are 2**31 coordinates or more.
        """
        if size > 2**31:
            raise FedSepError(f"index: 'int32' counts to 2**31, and there are {size} coordinates: use 'packed'")
        return positions.to(torch.int32)

    def unpack(self, packed: Tensor, count: int, size: int) -> Tensor:
        """The positions."""
        return packed.to(torch.int64)


@dataclass(frozen=True)
class Packed:
    """ceil(log2 n) bits each."""

    def pack(self, positions: Tensor, size: int) -> Tensor:
        """The positions, bit after bit."""
        return bits.pack(positions, _width(size))

    def unpack(self, packed: Tensor, count: int, size: int) -> Tensor:
        """The positions."""
        return bits.unpack(packed, _width(size), count).to(torch.int64)


@dataclass(frozen=True)
class Golomb:
    """The gaps between positions in a Golomb-Rice code, the optimum for positions chosen at random.

    A gap g is sent as g >> b ones, a zero, and the b lowest bits of g. Here all the unary parts come first,
    then all the low bits: the length is the same, and nothing has to be read one code after the other.

    Attributes:
        varies: The length depends on the gaps: at most k (b + 1) + (n - k) / 2**b bits.
    """

    varies: ClassVar[bool] = True

    def pack(self, positions: Tensor, size: int) -> Tensor:
        """The gaps, bit after bit; the length depends on them."""
        low = rice(positions.numel(), size)
        gaps = torch.diff(positions, prepend=positions.new_full((1,), -1)) - 1
        ends = torch.cumsum((gaps >> low) + 1, 0)
        unary = torch.ones(int(ends[-1]) if gaps.numel() else 0, dtype=torch.uint8, device=positions.device)
        unary[ends - 1] = 0
        digits = [((gaps >> place) & 1).to(torch.uint8) for place in range(low)]
        rest = torch.stack(digits, 1).reshape(-1) if digits else unary[:0]
        return bits.pack(torch.cat([unary, rest]), 1)

    def unpack(self, packed: Tensor, count: int, size: int) -> Tensor:
        """The positions."""
        low = rice(count, size)
        string = bits.unpack(packed, 1, 8 * packed.numel())
        ends = torch.nonzero(string == 0).reshape(-1)[:count] + 1
        start = int(ends[-1]) if count else 0
        high = torch.diff(ends, prepend=ends.new_zeros(1)) - 1
        digits = string[start : start + count * low].reshape(count, low).to(torch.int64)
        rest = (digits << torch.arange(low, device=digits.device)).sum(1)
        return torch.cumsum((high << low) + rest + 1, 0) - 1


def require_places(places: Tensor, count: int, size: int) -> None:
    """Refuses what are not ``count`` increasing positions below ``size``: on a GPU, reading them would end the process.

    Raises:
        FedSepError: They are too few, out of order, or out of range.
    """
    if places.numel() != count:
        raise FedSepError(f"the message has {places.numel()} positions, not {count}")
    if count and not bool((places[0] >= 0) & (places[-1] < size) & (places.diff() > 0).all()):
        raise FedSepError(f"the message's positions are not increasing numbers below {size}")


def rice(count: int, size: int) -> int:
    """The number of low bits, b* = 1 + floor(log2(log(phi - 1) / log(1 - k/n))), phi the golden ratio.

    Source: Sattler et al. 2019, arXiv:1903.02891, appendix; 0 where the formula would be negative.
    """
    if count >= size or count == 0:
        return 0
    golden = (math.sqrt(5) - 1) / 2
    return max(0, 1 + math.floor(math.log2(math.log(golden) / math.log1p(-count / size))))


def index_code(name: IndexName) -> IndexCode:
    """The code of a name."""
    codes: dict[IndexName, IndexCode] = {"int32": Int32(), "packed": Packed(), "golomb": Golomb()}
    return codes[name]


def _width(size: int) -> int:
    return max(size - 1, 0).bit_length()
