"""A broken law says which law, by what, what was expected and what came instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import keystr, tree_flatten_with_path

from fedsep.core import Tree


class LawBroken(AssertionError):
    """Something does not keep a law that every part of its kind must keep.

    Attributes:
        law: The law, as a sentence.
        subject: What breaks it.
        expected: What would have kept it.
        got: What came instead.
    """

    def __init__(self, law: str, subject: str, expected: str, got: str) -> None:
        super().__init__(f"{subject} breaks the law: {law}\n  expected: {expected}\n  got:      {got}")
        self.law, self.subject, self.expected, self.got = law, subject, expected, got


def name_of(thing: object) -> str:
    """What a part is called in messages: its class's name."""
    return thing.__name__ if isinstance(thing, type) else type(thing).__name__


def named_leaves(tree: Tree) -> dict[str, Any]:
    """The leaves by their place in the tree, so that the order of a dict's names means nothing."""
    return {keystr(path) or "the value": leaf for path, leaf in tree_flatten_with_path(tree)[0]}


def describe(tree: Tree) -> str:
    """Names, dtypes and shapes of a tree's leaves on one line."""
    leaves = named_leaves(tree)
    parts = [f"{name}: {_kind(leaf)}" for name, leaf in list(leaves.items())[:8]]
    return "; ".join([*parts, *(["..."] if len(leaves) > 8 else [])]) or "an empty tree"


def require_alike(law: str, subject: str, expected: Tree, got: Tree) -> None:
    """The same names, shapes and dtypes.

    Raises:
        LawBroken: They differ.
    """
    wanted, found = named_leaves(expected), named_leaves(got)
    kinds = {name: _kind(leaf) for name, leaf in wanted.items()}, {name: _kind(leaf) for name, leaf in found.items()}
    if kinds[0] != kinds[1]:
        raise LawBroken(law, subject, _only(kinds[0], kinds[1]), _only(kinds[1], kinds[0]))


def require_same(law: str, subject: str, expected: Tree, got: Tree) -> None:
    """The same tree, bit for bit.

    Raises:
        LawBroken: They differ; the message has the first leaf that does.
    """
    require_alike(law, subject, expected, got)
    found = named_leaves(got)
    for name, leaf in named_leaves(expected).items():
        if not _identical(leaf, found[name]):
            raise LawBroken(law, subject, f"{name} = {_show(leaf)}", f"{name} = {_show(found[name])}")


def require_close(law: str, subject: str, expected: Tree, got: Tree, tolerance: float) -> None:
    """Names and shapes agree, and the difference's norm is at most ``tolerance`` of the larger norm.

    Raises:
        LawBroken: It is larger, or not a number.
    """
    wanted, found = named_leaves(expected), named_leaves(got)
    shapes = {name: _shape(leaf) for name, leaf in wanted.items()}, {name: _shape(leaf) for name, leaf in found.items()}
    if shapes[0] != shapes[1]:
        raise LawBroken(law, subject, _only(shapes[0], shapes[1]), _only(shapes[1], shapes[0]))
    pairs = [(_double(leaf), _double(found[name])) for name, leaf in wanted.items()]
    size = max(_norm([a for a, _ in pairs]), _norm([b for _, b in pairs]))
    error = _norm([a - b for a, b in pairs])
    if not error <= tolerance * size + torch.finfo(torch.float64).tiny:
        worst = max(zip(wanted, pairs, strict=True), key=lambda item: float((item[1][0] - item[1][1]).norm()))
        place, (a, b) = worst
        relative = error / size if size else error
        raise LawBroken(
            law,
            subject,
            f"{place} = {_show(a)}",
            f"{place} = {_show(b)}: a relative difference of {relative:.3g}, {tolerance:.3g} is allowed",
        )


def _identical(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.equal(a, b) or torch.equal(_bits(a), _bits(b))  # the latter: not a number in the same place
    return a is b or (callable(a) and callable(b)) or bool(a == b)


def _bits(a: Tensor) -> Tensor:
    return a.detach().contiguous().reshape(-1).view(torch.uint8)


def _kind(leaf: Any) -> str:
    if isinstance(leaf, Tensor):
        return f"{str(leaf.dtype).removeprefix('torch.')}{list(leaf.shape)}"
    return "a function" if callable(leaf) else type(leaf).__name__


def _shape(leaf: Any) -> str:
    return str(list(leaf.shape)) if isinstance(leaf, Tensor) else _kind(leaf)


def _only(these: Mapping[str, str], others: Mapping[str, str]) -> str:
    """The entries that the other side does not have, with their names."""
    apart = [f"{name}: {kind}" for name, kind in these.items() if others.get(name) != kind]
    return "; ".join(apart[:4]) + (" ..." if len(apart) > 4 else "") if apart else "no more than that"


def _double(leaf: Any) -> Tensor:
    return torch.as_tensor(leaf).detach().to(torch.float64).reshape(-1)


def _norm(parts: list[Tensor]) -> float:
    return float(torch.cat(parts).norm()) if parts else 0.0


def _show(leaf: Any) -> str:
    if not isinstance(leaf, Tensor):
        return repr(leaf)
    values = leaf.detach().reshape(-1)
    numbers = ", ".join(f"{value:.9g}" for value in values[:4].tolist())
    return f"[{numbers}{', ...' if values.numel() > 4 else ''}]"
