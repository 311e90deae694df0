"""Remembers what a pure function gave, by equal arguments: clients that were sent the same share the work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fedsep import tree
from fedsep.core import Tree
from fedsep.looking import far, look

KEPT_BYTES = 1 << 26
"""What one function may remember beyond its last two calls."""


@dataclass(frozen=True, eq=False)
class _Call:
    """A call: its number, its arguments, and what came of it.

    An argument on a device is that tensor itself, with the version that it had, so that the host need not wait to know
    it again; others are copies. A tensor that was changed meanwhile is no longer what it was.
    """

    number: int
    leaves: list[Tensor]
    versions: list[int]
    result: Tree

    @property
    def stale(self) -> bool:
        return any(leaf._version != version for leaf, version in zip(self.leaves, self.versions, strict=True)  # pyright: ignore[reportPrivateUsage]
                   if version >= 0)  # fmt: skip


@dataclass
class Memo:
    """The latest calls of one pure function, at most 64 MiB of them (two at least).

    Arguments are compared by value, and what becomes of the caller's tensors does not matter: what is remembered is a
    copy, or, on a device, forgotten when it is changed. Results are shared: they must not be changed in place.
    """

    _calls: list[_Call] = field(default_factory=list)

    def __call__(self, compute: Callable[[], Tree], number: int, *arguments: Tree) -> Tree:
        """``compute()``, or its result when ``number`` and ``arguments`` were last equal to these."""
        if transforming():
            return compute()  # inside vmap there are no values to compare
        leaves = tree.leaves(arguments)
        known = _found(self._calls, number, leaves)
        if known is None:
            self._calls = [call for call in self._calls if not call.stale]
            self._calls.append(_called(number, leaves, compute()))
            while len(self._calls) > 2 and self.nbytes() > KEPT_BYTES:
                del self._calls[0]
            return self._calls[-1].result
        if any(map(far, leaves)):  # who brings the same tensors next is not waited for
            self._calls[self._calls.index(known)] = _called(number, leaves, known.result)
        return known.result

    def nbytes(self) -> int:
        """Bytes of what is remembered; of a view on a device, all that it keeps alive."""
        parts = (part for call in self._calls for part in tree.leaves([call.leaves, call.result]))
        blocks = {block.data_ptr(): block.nbytes() for block in (part.untyped_storage() for part in parts)}
        return sum(blocks.values())


def transforming() -> bool:
    """Whether this is inside a function transform (vmap, vjp, jvp): tensors made there must not outlive it."""
    return torch._C._functorch.peek_interpreter_stack() is not None  # type: ignore[attr-defined]


def _called(number: int, leaves: list[Tensor], result: Tree) -> _Call:
    kept = [leaf if _is_known_again(leaf) else leaf.clone() for leaf in leaves]
    versions = [leaf._version if _is_known_again(leaf) else -1 for leaf in leaves]  # pyright: ignore[reportPrivateUsage]
    return _Call(number, kept, versions, result)


def _found(calls: list[_Call], number: int, leaves: list[Tensor]) -> _Call | None:
    """A call with equal arguments, the latest first; numbers on a device are looked at where nothing else tells."""
    forms, doubtful = _forms(leaves), list[tuple[_Call, Tensor]]()
    for call in reversed(calls):
        if call.number != number or _forms(call.leaves) != forms or call.stale:
            continue
        others = [(u, v) for u, v in zip(call.leaves, leaves, strict=True) if not _same(u, v)]
        if not all(torch.equal(u, v) for u, v in others if not far(u)):
            continue
        unknown = [(u == v).all() for u, v in others if far(u)]
        if not unknown:
            return call
        doubtful.append((call, torch.stack(unknown).all()))
    equal = look([flag for _, flag in doubtful])
    return next((call for (call, _), flag in zip(doubtful, equal, strict=True) if flag), None)


def _forms(leaves: list[Tensor]) -> list[tuple[Any, ...]]:
    return [(leaf.dtype, leaf.shape, leaf.device) for leaf in leaves]


def _is_known_again(leaf: Tensor) -> bool:
    """Whether to compare a tensor by value is to wait, and a change of it would be seen."""
    return far(leaf) and not leaf.is_inference()


def _same(known: Tensor, leaf: Tensor) -> bool:
    """Whether two tensors of one form on a device lie in one place: one of them is kept, so that no other does."""
    return _is_known_again(known) and (known.data_ptr(), known.stride()) == (leaf.data_ptr(), leaf.stride())
