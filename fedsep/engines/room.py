"""For how many stacked clients a processor's memory suffices, told before they are: see ``room``."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedsep import tree
from fedsep.core import Params, Samples

COPIES = 5
"""Models that a client takes at a time: what it was sent, start, point, gradient, reply."""

_ROOMY = 1000
"""A loss keeps less than so many times the models and the minibatch: where that fits, it need not be asked."""


def room(clients: int, learner: Any, y: Params, train: Samples, *, surely: bool = False) -> int:
    """How many of some like clients fit what is free, one at least; all of them where that cannot be told.

    Linux promises more memory than there is: an allocation that is too large does not fail, but the process is killed
    when it writes there. So the bound is told from one client's first loss.

    Args:
        clients: How many there are.
        learner: Of their method.
        y: Where one of them starts.
        train: What it learns from.
        surely: More than are told surely do not fit; else so many do, as far as that can be told.
    """
    free = free_memory()
    if free is None or not train.x.is_cpu:
        return clients
    batch = train.take(torch.arange(min(train.size, getattr(learner, "batch_size", None) or train.size)))
    known = COPIES * tree.nbytes(y) + tree.nbytes([batch.x, batch.y])
    if clients * known * _ROOMY <= free:
        return clients
    task = getattr(learner, "problem", None) or getattr(learner, "task", None)
    # Going backward, gradients of what was kept take as much again at most: what was kept is freed meanwhile.
    each = known + (0 if task is None else (1 if surely else 2) * kept(task, y, batch))
    return max(1, min(clients, int((1 if surely else 0.9) * free) // each))


def kept(task: Any, y: Params, batch: Any) -> int:
    """Bytes that a loss keeps for its gradient beside the parameters, or has until it fails, as the step will say."""
    leaves = {name: part.detach().requires_grad_() for name, part in y.items()}
    own = {part.untyped_storage().data_ptr() for part in [*leaves.values(), batch.x, batch.y]}
    found: dict[int, Tensor] = {}

    def note(part: Tensor) -> None:  # it keeps nothing for a gradient that nobody asks for
        found[part.untyped_storage().data_ptr()] = part

    noting = torch.autograd.graph.saved_tensors_hooks(note, lambda _: None)  # type: ignore[arg-type]
    with suppress(Exception), torch.random.fork_rng(devices=[]), torch.enable_grad(), noting:
        task.loss(leaves, batch)
    size = sum(part.untyped_storage().nbytes() for place, part in found.items() if place not in own)
    found.clear()  # the graph holds the hook, which holds these, which hold the graph
    return size


def free_memory() -> int | None:
    """Bytes, as Linux tells: of the machine, or what is left of the container's share."""
    try:
        [line] = [line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable:")]
    except (OSError, ValueError):
        return None
    free = 1024 * int(line.split()[1])
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
        told = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        cached = int(told["inactive_file"]) + int(told["active_file"])  # counted as used, and given up when asked for
    except (OSError, ValueError, KeyError):  # no such file, or "max"
        return free
    return min(free, limit - used + cached)
