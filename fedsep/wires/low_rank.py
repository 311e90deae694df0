"""The low-rank wire of PowerSGD: every matrix as a product of two thin ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fedsep import random
from fedsep import tree as trees
from fedsep.core import Ctx, Payload, Tree
from fedsep.ranges import Count, checked
from fedsep.wires.dense import Dense, Precision, as_sent
from fedsep.wires.promises import Contraction, Lossy

_FIRST = int.from_bytes(b"lowrank", "big")  # what the first Q is drawn from, the same for every sender

Memory = tuple[Tensor, ...]
"""Q of every matrix that is factored, by the sorted names."""


@dataclass(frozen=True)
class LowRank:
    """See ``low_rank``."""

    rank: int = 1
    values: Dense = Dense()

    def init(self, like: Tree) -> Memory:
        """The first Q of each matrix: normal numbers."""
        parts, _ = trees.ordered(like)
        key = random.key(_FIRST)
        return tuple(
            random.normal(random.fold(key, number), matrix(part).shape[1], self.rank).to(part)
            for number, part in enumerate(part for part in parts if self.factors(part))
        )

    def pack(self, tree: Tree, memory: Memory, ctx: Ctx) -> tuple[Payload, Memory]:
        """P = orth(M Q) and Q+ = M^T P of each matrix, Q being the Q+ of the last accepted message."""
        parts, _ = trees.ordered(tree)
        warm = iter(memory)
        payload, kept = list[Any](), list[Tensor]()
        for part in parts:
            if not self.factors(part):
                payload.append({"whole": part})
                continue
            p = torch.linalg.qr(matrix(part) @ next(warm)).Q
            q = matrix(part).mT @ p
            payload.append({"p": p, "q": q})
            kept.append(q)
        return self.values.round(tuple(payload)), tuple(kept)

    def unpack(self, payload: Payload, like: Tree, ctx: Ctx) -> Tree:
        """P Q^T in the matrix's shape."""
        parts, restore = trees.ordered(like)
        read = self.values.unpack(payload, None, ctx)
        return restore([_read(sent, part) for sent, part in zip(read, parts, strict=True)])

    def promise(self, size: int) -> Contraction | Lossy:
        """P P^T is a projection, so that nothing grows; how much it keeps depends on the matrix. Not so if rounded."""
        return Contraction(0.0) if self.values.dtype is None else Lossy()

    def factors(self, part: Tensor) -> bool:
        """Whether a tensor is sent as two factors: it has rows and columns, and they are smaller."""
        rows, columns = matrix(part).shape
        return part.ndim > 1 and self.rank * (rows + columns) < rows * columns


@checked
def low_rank(rank: Count = 1, *, values: Precision | None = None) -> LowRank:
    """P Q^T for every matrix (a tensor's first axis against the rest), from one step of power iteration.

    Q starts where the sender's last accepted message left it, so that slowly moving matrices are followed ever more
    closely. Vectors, and matrices that are smaller than their factors, go as they are. Use it with error feedback.

    Args:
        rank: r, columns of P and Q.
        values: The float type in which P, Q and the rest are sent; None: as they are.

    Bytes:
        4 * r * (rows + columns) for each matrix that is factored, 4 a number for the rest; half of it in float16 and
        bfloat16.

    Memory:
        The sender: Q of each matrix, 4 * r * columns.

    Reference:
        Vogels et al. 2019, arXiv:1905.13727.
    """
    return LowRank(rank, as_sent(values))


def matrix(part: Tensor) -> Tensor:
    """A tensor as (first axis, all others)."""
    return part.reshape(part.shape[0], -1) if part.ndim > 1 else part.reshape(1, -1)


def _read(sent: dict[str, Tensor], like: Tensor) -> Tensor:
    whole = sent["whole"] if "whole" in sent else sent["p"] @ sent["q"].mT
    return whole.reshape(like.shape).to(like.dtype)
