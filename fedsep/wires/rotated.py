"""A random rotation before a wire: afterwards no coordinate is special, and most are close to normal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fedsep import random
from fedsep.core import Ctx, Payload, Tree, Wire
from fedsep.operators.hadamard import walsh_hadamard
from fedsep.wires import bits as packing
from fedsep.wires.message import blank, inside, layout_of, require_memoryless, vector_of
from fedsep.wires.promises import Promise, promise_of

_KEY = 7307
_VALUES_KEY = 7308


@dataclass(frozen=True)
class Rotated:
    """See ``rotated``."""

    wire: Wire[Any]

    def init(self, like: Tree) -> tuple[()]:
        """Nothing is remembered."""
        layout = layout_of(self, like)
        require_memoryless(self, self.wire, blank(layout.size, layout))
        return ()

    def pack(self, tree: Tree, memory: tuple[()], ctx: Ctx) -> tuple[Payload, tuple[()]]:
        """R u by the wire inside."""
        turned = rotate(vector_of(self, tree)[0], random.fold(ctx.key, _KEY))
        return self.wire.pack(turned, (), inside(ctx, _VALUES_KEY))[0], memory

    def unpack(self, payload: Payload, like: Tree, ctx: Ctx) -> Tree:
        """R^T of what the wire inside reads."""
        layout = layout_of(self, like)
        turned = self.wire.unpack(payload, blank(layout.size, layout), inside(ctx, _VALUES_KEY))
        return layout.unravel(rotate_back(turned, random.fold(ctx.key, _KEY)))

    def promise(self, size: int) -> Promise:
        """That of the wire inside: lengths and means pass a rotation."""
        return promise_of(self.wire, size)


def rotated(wire: Wire[Any]) -> Rotated:
    """Rotates a message by the key of the round, sends it by ``wire``, and rotates back what is read.

    The rotation is made of random signs and Walsh-Hadamard transforms of the largest power of two m <= n: one on
    the first m coordinates, one on the last m; then the coordinates are dealt in two heaps by coin, and both are
    done again. So n coordinates stay n, where padding would send up to 2 n.

    Args:
        wire: Sends the rotated vector.

    Bytes:
        Those of ``wire``. The rotation is made from the key that both ends have.
    """
    return Rotated(wire)


def rotate(vector: Tensor, key: Tensor) -> Tensor:
    """R v, R orthogonal and made from the key; shape (n,)."""
    vector = _mix(vector, random.fold(key, 0))
    return _mix(vector[_dealt(vector, random.fold(key, 1))], random.fold(key, 2))


def rotate_back(vector: Tensor, key: Tensor) -> Tensor:
    """R^T v."""
    vector = _unmix(vector, random.fold(key, 2))
    gathered = torch.empty_like(vector)
    gathered[_dealt(vector, random.fold(key, 1))] = vector
    return _unmix(gathered, random.fold(key, 0))


def _mix(vector: Tensor, key: Tensor) -> Tensor:
    for number, part in enumerate(_parts(vector.numel())):
        vector = vector * _signs(random.fold(key, number), vector)
        vector[part] = walsh_hadamard(vector[part])
    return vector


def _unmix(vector: Tensor, key: Tensor) -> Tensor:
    vector = vector.clone()
    for number, part in reversed(list(enumerate(_parts(vector.numel())))):
        vector[part] = walsh_hadamard(vector[part])
        vector.mul_(_signs(random.fold(key, number), vector))
    return vector


def _parts(size: int) -> list[slice]:
    """The largest power of two of coordinates, from the front and, if these are not all, from the back."""
    whole = 1 << max(size.bit_length() - 1, 0)
    return [slice(start, start + whole) for start in sorted({0, size - whole}) if size]


def _dealt(like: Tensor, key: Tensor) -> Tensor:
    """The positions of one heap, then those of the other; a coin for each says to which it goes."""
    coins = _coins(key, like)
    return torch.cat([torch.nonzero(coins), torch.nonzero(1 - coins)]).reshape(-1)


def _signs(key: Tensor, like: Tensor) -> Tensor:
    return 1 - 2 * _coins(key, like).to(like.dtype)


def _coins(key: Tensor, like: Tensor) -> Tensor:
    """A random bit for each coordinate, uint8 of shape (n,): 64 from each draw."""
    count = like.numel()
    draws = random.bits(key, -(-count // 64)).view(torch.uint8)[: packing.packed_bytes(count, 1)]
    return packing.unpack(draws.to(like.device), 1, count)
