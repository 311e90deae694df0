"""Whether two ends hold the same anchor: 8 bytes of every message's header say so.

Four bytes are a hash: chained over the run's key and every message that was folded, or, of a copy that is mended by the
numbers themselves, over those that were sent. It is equal on every device. The other four are a float32, the anchor's
inner product with random signs: anchors that different devices folded differ in last bits, and a hash over all their
numbers would call for the whole anchor after every fold.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import torch
from torch import Tensor

from fedsep.core import Algorithm, Ctx, FedSepError, Params, Payload, stage

DRIFT = 1e-3
"""Largest relative difference between the two ends' probes."""

_PIECE = 1 << 22  # numbers that are summed at a time

STAGE = "digest"
"""The stage of a client that found its memory wrong: it is sent everything the next time."""


def as_digest(number: int) -> Tensor:
    """A digest that was told as a number. It lies in main memory, whatever is computed on: it is looked at."""
    return torch.tensor(number, dtype=torch.int64, device="cpu")


def seal(key: Tensor) -> Tensor:
    """The digest before the first message, from the key that both ends share; an int64 scalar in main memory."""
    return as_digest(_joined(_hash(struct.pack("<q", int(key))), 0.0))


def fold_digest(digest: Tensor, message: Payload, anchor: Params | None = None) -> Tensor:
    """The digest after a message, and after the fold into ``anchor`` if there was one."""
    chain, probe = _split(int(digest))
    chained = _hash(struct.pack("<I", chain) + b"".join(_bytes(leaf) for leaf in _ordered(message)))
    return as_digest(_joined(chained, probe if anchor is None else _probe(anchor)))


def copy_digest(model: Params, start: Params) -> Tensor:
    """The digest of a copy of the model that is mended by the numbers themselves: no history is needed to compare it.

    The hash is over the coordinates that are no longer what they were at the start, which is what was sent: those are
    the server's bit for bit, on every device, and the initial model is that but for last bits.
    """
    now, before = _vector(model), _vector(start)
    moved = (now != before).nonzero()[:, 0]
    chain = _hash(_bytes(moved) + _bytes(now[moved]))
    return as_digest(_joined(chain, _probe(model)))


def sealed(algorithm: Algorithm[Any, Any], state: Any, ctx: Ctx) -> Ctx:
    """The context with the digest of what the server takes its client to hold, where the method keeps one."""
    digest = getattr(algorithm, "digest", None)
    return ctx if digest is None else ctx._replace(digest=digest(state))


def check_digest(own: Tensor, ctx: Ctx) -> None:
    """Compares a client's digest with the server's, if the server told one.

    Raises:
        FedSepError: They differ; its stage is ``digest``.
    """
    if ctx.digest is None:
        return
    (chain, probe), (expected, reference) = _split(int(own)), _split(ctx.digest)
    drifted = abs(probe - reference) > DRIFT * max(abs(reference), 1.0)
    if chain != expected or drifted:
        why = "numbers drifted apart" if chain == expected else "another history of messages"
        with stage(STAGE):
            raise FedSepError(f"the client's copy of the model is not the server's ({why}): it is sent everything next")


def _probe(anchor: Params) -> float:
    """sum of +-anchor_j, over the root of d."""
    parts, count = _flat(anchor), sum(part.numel() for part in anchor.values())
    if count <= _PIECE:
        return float(_signed(torch.cat(parts), 0) / count**0.5)
    total, start = 0.0, 0  # a vector of all of them, and of the integers that the signs are made from, is gigabytes
    for piece in (piece for part in parts for piece in part.split(_PIECE)):
        total, start = total + float(_signed(piece, start)), start + piece.numel()
    return float(total / count**0.5)


def _signed(flat: Tensor, start: int) -> Tensor:
    """The sum of numbers that stand from ``start`` on, each with its sign."""
    place = torch.arange(start, start + flat.numel(), device=flat.device)
    return (flat.to(torch.float32) * (1 - 2 * ((place * 0x9E3779B1 >> 17) & 1))).sum()


def _vector(params: Params) -> Tensor:
    return torch.cat(_flat(params))


def _flat(params: Params) -> list[Tensor]:
    return [params[name].reshape(-1) for name in sorted(params)]


def _ordered(message: Payload) -> list[Tensor]:
    """The leaves of a message, by name where there are names."""
    if isinstance(message, dict):
        return [leaf for name in sorted(message) for leaf in _ordered(message[name])]
    if isinstance(message, tuple | list):
        return [leaf for part in message for leaf in _ordered(part)]
    return [message]


def _bytes(leaf: Tensor) -> bytes:
    return leaf.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()


def _hash(data: bytes) -> int:
    return struct.unpack("<I", hashlib.blake2b(data, digest_size=4).digest())[0]


def _joined(chain: int, probe: float) -> int:
    return struct.unpack("<q", struct.pack("<If", chain, probe))[0]


def _split(digest: int) -> tuple[int, float]:
    return struct.unpack("<If", struct.pack("<q", digest))
