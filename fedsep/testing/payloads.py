"""A payload is a tree of tensors and nothing else: what crosses is what is counted."""

from __future__ import annotations

import torch
from torch import Tensor

from fedsep import tree
from fedsep.core import Payload, Tree
from fedsep.testing.broken import LawBroken, named_leaves, require_same

TENSORS = "a payload holds tensors and nothing else"
SURVIVES = "a payload survives being saved and loaded, bit for bit"


def check_payload(payload: Payload, subject: str = "a payload") -> None:
    """Tensors only, with values, and the same after save and load.

    Raises:
        LawBroken: A leaf is no tensor, carries a graph or cannot be stored.
    """
    for place, leaf in named_leaves(payload).items():
        if not isinstance(leaf, Tensor):
            raise LawBroken(TENSORS, subject, f"a tensor at {place}", f"{type(leaf).__name__}: {leaf!r}")
        if leaf.requires_grad:
            raise LawBroken(TENSORS, subject, f"values at {place}", "a tensor with a graph: detach it")
    require_same(SURVIVES, subject, payload, reload(payload))


def reload(payload: Payload) -> Payload:
    """The payload as the other end sees it: saved as safetensors and loaded."""
    from safetensors.torch import load, save

    leaves, structure = tree.flatten(payload)
    stored = load(save({str(n): leaf.detach().contiguous().clone() for n, leaf in enumerate(leaves)}))
    return tree.unflatten([stored[str(n)] for n in range(len(leaves))], structure)  # type: ignore[arg-type]


def single_precision_bytes(payload: Payload) -> int:
    """Bytes of a payload, a number of the default float type counted as the 4 bytes of a float32."""
    own = torch.get_default_dtype()
    return sum(leaf.numel() * (4 if leaf.dtype == own else leaf.element_size()) for leaf in tree.leaves(payload))


def reordered(given: Tree) -> Tree:
    """The same tree with the names of every dict in the opposite order, which must mean nothing."""
    if isinstance(given, dict):
        return {name: reordered(part) for name, part in reversed(given.items())}
    if isinstance(given, list | tuple) and not hasattr(given, "_fields"):
        return type(given)(reordered(part) for part in given)
    return given
