"""Trees as safetensors: the tensors bit for bit, the structure as JSON beside them; nothing is ever unpickled.

The structure is saved, not assumed, because a state may grow: a history of sketches has more leaves later.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from fedsep.core import FedSepError, Tree

_STRUCTURE = "tree"  # the structure's name in a file's metadata


class Damaged(FedSepError):
    """Bytes that are not what ``dump`` wrote."""


def dump(tree: Tree) -> bytes:
    """A tree as the contents of a safetensors file.

    Args:
        tree: Dicts, lists, tuples and NamedTuples of tensors; numbers, strings and None are allowed beside them.

    Raises:
        FedSepError: There is something else in it.
    """
    from safetensors.torch import save

    packing = _Packing()
    structure = packing.outline(tree, "")
    named = {str(i): part for i, part in enumerate(packing.tensors)}
    return save(named, metadata={_STRUCTURE: json.dumps(structure, separators=(",", ":"))})


def dump_named(tensors: Mapping[str, Tensor]) -> bytes:
    """Tensors as the contents of a plain safetensors file, under their own names."""
    from safetensors.torch import save

    packing = _Packing()
    return save({name: packing.own(part.detach()) for name, part in tensors.items()})


def load_named(data: bytes) -> dict[str, Tensor]:
    """The tensors of ``dump_named``.

    Raises:
        Damaged: The bytes are something else, or a part of it.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as load_tensors

    try:
        return load_tensors(data)
    except SafetensorError as error:
        raise Damaged(f"not readable as safetensors ({error})") from error


def load(data: bytes) -> Tree:
    """The tree that ``dump`` made into ``data``.

    Raises:
        Damaged: ``data`` is something else, or was cut off.
        FedSepError: It holds a NamedTuple that this program does not have.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as load_tensors

    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        structure = json.loads(header["__metadata__"][_STRUCTURE])
        # Cloned, because kernels may round differently on memory that is not aligned as torch aligns it.
        tensors = {name: part.clone() for name, part in load_tensors(data).items()}
        return _rebuild(structure, tensors)
    except (SafetensorError, ValueError, KeyError, IndexError, TypeError) as error:
        raise Damaged(f"not a tree as it was saved ({type(error).__name__}: {error})") from error


def taken_apart(tree: Tree) -> tuple[list[Any], list[Tensor]]:
    """The structure of a tree as plain values that JSON has, and its tensors, on the CPU, each once.

    Raises:
        FedSepError: There is something else in it than ``dump`` takes.
    """
    packing = _Packing()
    return packing.outline(tree, ""), packing.tensors


def put_together(structure: list[Any], tensors: Sequence[Tensor]) -> Tree:
    """The tree that ``taken_apart`` took apart.

    Raises:
        Damaged: The structure is none, or has other tensors.
        FedSepError: It holds a NamedTuple that this program does not have.
    """
    try:
        return _rebuild(structure, {str(i): part for i, part in enumerate(tensors)})
    except (ValueError, KeyError, IndexError, TypeError, RuntimeError) as error:
        raise Damaged(f"not a tree as it was taken apart ({type(error).__name__}: {error})") from error


@dataclass(frozen=True)
class _Packing:
    """Collects the tensors of a tree, each once, while its structure is written down."""

    tensors: list[Tensor] = field(default_factory=list[Tensor])
    nodes: dict[int, list[Any]] = field(default_factory=dict[int, list[Any]])  # by the tensor's id
    storages: set[int] = field(default_factory=set[int])

    def outline(self, node: Tree, at: str) -> list[Any]:
        """The structure of ``node`` as JSON; ``at`` says where it is, for messages."""
        if isinstance(node, Tensor):
            return self._tensor(node)
        if isinstance(node, dict):
            items = cast(dict[str | int, Tree], node).items()
            return ["dict", [[_key(key, at), self.outline(part, f"{at}[{key!r}]")] for key, part in items]]
        if isinstance(node, list | tuple):
            node = cast(list[Tree] | tuple[Tree, ...], node)
            return [*_kind(node), [self.outline(part, f"{at}[{i}]") for i, part in enumerate(node)]]
        if isinstance(node, float):
            return ["float", node.hex()]
        if node is None or isinstance(node, bool | int | str):
            return ["value", node]
        raise _refused(f"{type(node).__name__} at {at or 'its root'}")

    def _tensor(self, part: Tensor) -> list[Any]:
        if id(part) not in self.nodes:
            node: list[Any] = ["tensor", len(self.tensors), str(part.device)]
            order = sorted(range(part.dim()), key=part.stride, reverse=True)
            dense = part.detach().permute(order)
            if dense.is_contiguous() and not part.is_contiguous():
                # E.g. channels last: another layout would choose other kernels, and other last bits.
                node += [list(part.shape), list(part.stride())]
            self.tensors.append(self.own(dense if len(node) > 3 else part.detach()))
            self.nodes[id(part)] = node
        return self.nodes[id(part)]

    def own(self, part: Tensor) -> Tensor:
        """The tensor as safetensors wants it: contiguous, on the CPU, in memory that is all its own."""
        part = part.cpu().contiguous()
        storage = part.untyped_storage()
        if storage.data_ptr() in self.storages or storage.nbytes() != part.nbytes:
            part = part.clone()
        self.storages.add(part.untyped_storage().data_ptr())
        return part


def _key(key: object, at: str) -> str | int:
    if isinstance(key, str | int) and not isinstance(key, bool):
        return key
    raise _refused(f"the key {key!r} at {at or 'its root'}")


def _refused(what: str) -> FedSepError:
    allowed = "tensors, numbers, strings and None, in dicts (keys: str or int), lists, tuples and NamedTuples"
    return FedSepError(f"a state that is saved is made of {allowed} (got {what})")


def _kind(node: list[Tree] | tuple[Tree, ...]) -> list[Any]:
    if isinstance(node, list):
        return ["list"]
    if hasattr(node, "_fields"):
        return ["named", _full_name(type(node)), list(cast(Any, node)._fields)]
    return ["tuple"]


def _full_name(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _rebuild(node: list[Any], tensors: dict[str, Tensor]) -> Tree:
    kind = node[0]
    if kind == "tensor":
        return _restored(tensors[str(node[1])], node[2], *node[3:])
    if kind == "dict":
        return {key: _rebuild(part, tensors) for key, part in node[1]}
    if kind == "float":
        return float.fromhex(node[1])
    if kind == "value":
        return node[1]
    parts = [_rebuild(part, tensors) for part in node[-1]]
    if kind == "named":
        return _class(node[1], node[2])(*parts)
    return {"list": list, "tuple": tuple}[kind](parts)


def _restored(part: Tensor, device: str, shape: list[int] | None = None, stride: list[int] | None = None) -> Tensor:
    if shape is not None and stride is not None:
        if math.prod(shape) != part.numel():  # another order of the same numbers, never one number seen 2**62 times
            raise ValueError(f"a shape of {math.prod(shape)} numbers for {part.numel()}")
        part = part.as_strided(shape, stride)
    if device.startswith("cuda") and torch.cuda.is_available():
        return part.to(device)
    return part


def _class(name: str, fields: list[str]) -> type:
    """The NamedTuple of this name among those that the program has defined: nothing is imported for a file's sake."""
    for kind in reversed(tuple.__subclasses__()):
        if _full_name(kind) == name and list(getattr(kind, "_fields", ())) == fields:
            return kind
    raise FedSepError(f"it holds a {name} with the fields {', '.join(fields)}, which this program does not define")
