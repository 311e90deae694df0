"""Lets a linear map that works in buffers of its own take part in autograd and ``torch.func``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

Map = Callable[[Tensor], Tensor]
"""A linear map of the last axis; any batch axes may come before it."""


def linear(x: Tensor, forward: Map, transpose: Map) -> Tensor:
    """``forward(x)``, differentiable and usable inside vmap whatever ``forward`` does with its memory."""
    watched = x.requires_grad or torch._C._are_functorch_transforms_active()  # type: ignore[attr-defined]
    if not watched and forward_ad.unpack_dual(x).tangent is None:
        return forward(x)  # as it would be, without 0.1 ms of ceremony
    return _Linear.apply(x, forward, transpose)  # type: ignore[no-any-return]


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, forward: Map, transpose: Map) -> Tensor:
        return forward(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Map, Map], output: Tensor) -> None:
        _, ctx.map, ctx.transpose = inputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return linear(gradient, ctx.transpose, ctx.map), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *others: None) -> Tensor:  # type: ignore[override]
        return linear(tangent, ctx.map, ctx.transpose)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int, None, None], *args: Any) -> tuple[Tensor, int]:  # type: ignore[override]
        x, forward, transpose = args
        return linear(x.movedim(in_dims[0], 0), forward, transpose), 0
