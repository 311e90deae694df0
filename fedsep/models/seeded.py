"""Weights from a seed, with torch's global random state left as it was."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Generator[None]:
    """Inside the block, torch draws on the CPU from ``seed``; afterwards its global state is as before.

    Modules built inside have weights that depend on the seed and on the default float type alone.
    Draws on other devices, and those of NumPy and of ``random``, are not touched.

    Args:
        seed: From -2**63 to 2**64 - 1.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
