"""Keeps the last operators that a factory made: ten clients of a round ask for the same one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor

P = ParamSpec("P")
S = TypeVar("S")


def remembered(make: Callable[P, S]) -> Callable[P, S]:
    """``make(p, d, key, **options)``, not called again while its last two answers serve.

    Equal numbers, key, device, default float type and options give the same operator, which nobody changes.
    """

    @functools.lru_cache(maxsize=2)
    def made(p: int, d: int, key: int, of: tuple[Any, ...], **options: Any) -> Any:
        return cast(Any, make)(p, d, torch.tensor(key, device=of[0]), **options)

    @functools.wraps(make)
    def call(p: int, d: int, key: Tensor, **options: Any) -> Any:
        return made(p, d, int(key), (key.device, torch.get_default_dtype()), **options)

    return cast(Callable[P, S], call)
