"""Tensors as they lie in memory after a journey, so that bits do not depend on whether there was one.

Matrix-vector products and dot products of MKL, and convolutions, round differently when a tensor starts at an
odd address or is a strided view. What crosses the wire is therefore dense and aligned in every engine.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

from fedsep import tree
from fedsep.core import Tree

T = TypeVar("T")

ALIGNMENT = 64
"""Bytes: where torch's own allocator starts every tensor."""

_PLAIN = frozenset({int, float, str, bool, type(None)})


def settled(value: T) -> T:
    """The tree with every tensor dense, aligned and without history; where all are, the tree itself."""
    return value if _is_settled(value) else tree.map(_settle, value)


def dense(tensor: Tensor) -> Tensor:
    """The tensor without history and gaps; strides are kept where there are no gaps (channels last, transposed)."""
    if tensor.requires_grad:
        tensor = tensor.detach()
    if tensor.is_conj() or tensor.is_neg():
        tensor = tensor.resolve_conj().resolve_neg()
    if tensor.is_contiguous() or torch.empty_like(tensor, device="meta").stride() == tensor.stride():
        return tensor
    return tensor.clone()


def spaced(stacked: Tensor) -> Tensor:
    """The same numbers, with gaps between the slices of the first axis: every slice is settled, in one copy for all."""
    own, item = stacked[0].numel() if len(stacked) else 0, stacked.element_size()
    gap = -own % (ALIGNMENT // item) if stacked.is_contiguous() else 0
    if not gap:
        return stacked  # aligned already, or of another order
    strides = (own + gap, *stacked.stride()[1:])
    return torch.empty_strided(stacked.shape, strides, dtype=stacked.dtype, device=stacked.device).copy_(stacked)


def host(tensor: Tensor) -> Tensor:
    """The same, in main memory."""
    return dense(tensor).cpu()


def _is_settled(node: Tree) -> bool:
    # By hand, because this is asked for every message, and pytree takes twenty times as long.
    if isinstance(node, Tensor):
        return _lies(node)
    if isinstance(node, dict):
        node = node.values()
    elif not isinstance(node, (list, tuple)):
        return True
    for part in node:
        kind = type(part)
        if kind in _PLAIN:
            continue
        if not (_lies(part) if kind is Tensor else _is_settled(part)):
            return False
    return True


def _lies(tensor: Tensor) -> bool:
    """Whether a tensor is dense, aligned and without history."""
    if tensor.is_contiguous() and not (tensor.requires_grad or tensor.is_conj() or tensor.is_neg()):
        return tensor.data_ptr() % ALIGNMENT == 0
    return tensor.layout is not torch.strided or (dense(tensor) is tensor and tensor.data_ptr() % ALIGNMENT == 0)


def _settle(leaf: T) -> T:
    if not isinstance(leaf, Tensor) or _is_settled(leaf):
        return leaf
    source = dense(leaf)
    return torch.empty_strided(source.shape, source.stride(), dtype=source.dtype, device=source.device).copy_(source)
