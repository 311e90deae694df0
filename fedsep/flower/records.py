"""Letters as Flower carries them: one record of tensors, byte for byte, and one of text with their structure.

A letter is a tree of plain values and tensors. Nothing is pickled, at no end; a tensor that occurs twice crosses once.
"""

from __future__ import annotations

import json
import math
from typing import Any

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict  # pyright: ignore[reportMissingImports]
from torch import Tensor

from fedsep import pack
from fedsep.core import FedSepError, Tree

_KIND = "fedsep.tensor.v1"  # of an array's bytes: those of a dense tensor, in the machine's order
_DTYPES: dict[str, torch.dtype] = {
    str(kind).removeprefix("torch."): kind
    for kind in (
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex128, torch.complex64, torch.int64,
        torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
    )
}  # fmt: skip
"""Plain types: of torch's quantised ones, bytes from outside can end the process."""
_MOST_DIMS = 64


def to_records(letter: Tree) -> RecordDict:
    """A letter as records.

    Raises:
        FedSepError: It holds something that is neither a plain value nor a tensor of a plain type.
    """
    structure, tensors = pack.taken_apart(letter)
    arrays = {str(i): _array(part) for i, part in enumerate(tensors)}
    text = json.dumps(structure, separators=(",", ":"))
    return RecordDict({"tensors": ArrayRecord(arrays), "letter": ConfigRecord({"tree": text})})


def from_records(records: Any) -> Tree:
    """The letter that ``to_records`` made into ``records``.

    Raises:
        Damaged: They come from somebody else, or were tampered with; nothing is allocated beyond what crossed.
    """
    try:
        arrays = records["tensors"]
        tensors = [_tensor(arrays[str(i)]) for i in range(len(arrays))]
        structure = json.loads(records["letter"]["tree"])
        return pack.put_together(structure, tensors)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise pack.Damaged(f"not a letter ({type(error).__name__}: {error})") from error


def serialised(records: Any) -> int:
    """Bytes of the records as Flower counts them: payload, text, and what names and shapes take."""
    return sum(record.count_bytes() for record in records.values())


def _array(part: Tensor) -> Array:
    if part.dtype not in _DTYPES.values():
        raise FedSepError(f"tensors of {part.dtype} are not sent")
    data = part.reshape(-1).view(torch.uint8).numpy().tobytes() if part.numel() else b""
    return Array(str(part.dtype).removeprefix("torch."), tuple(part.shape), _KIND, data)


def _tensor(array: Any) -> Tensor:
    """A tensor in memory of its own, aligned as torch aligns it."""
    shape, dtype = tuple(array.shape), _DTYPES[array.dtype]
    if array.stype != _KIND or len(shape) > _MOST_DIMS or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError(f"an array of kind {str(array.stype)[:40]!r} and {len(shape)} axes")
    if math.prod(shape) * dtype.itemsize != len(array.data):
        raise ValueError(f"an array of {len(array.data)} bytes that do not make the shape it names")
    if not array.data:
        return torch.empty(shape, dtype=dtype)
    raw = torch.frombuffer(bytearray(array.data), dtype=torch.uint8)
    part = raw != 0 if dtype is torch.bool else raw.clone().view(dtype)  # a truth value is 0 or 1 and nothing else
    return part.reshape(shape)
