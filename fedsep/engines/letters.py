"""Trees as letters: the tensors are put aside as raw bytes, the rest is pickled with a note of where they lie."""

from __future__ import annotations

import ctypes
import io
import marshal
import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from fedsep.settle import host

INLINE_BYTES = 256
"""Tensors up to this size travel inside the letter: a key, a scalar, a short report."""

Note = bytes
"""What a letter says of a tensor that was put aside. It is unlike any other note that is in use."""
Place = Note | tuple[Literal["here", "yours"], bytes]
"""A note, or the tensor's own bytes, or the note by which the reader had sent it: it came back as it was."""
Form = tuple[tuple[int, ...], tuple[int, ...], int, bool]
"""A tensor's shape, strides, the number of its dtype, and whether it lies elsewhere than in main memory."""

_DTYPES = sorted({kind for kind in vars(torch).values() if isinstance(kind, torch.dtype)}, key=str)
_NUMBERS = {kind: number for number, kind in enumerate(_DTYPES)}


def write(values: Iterable[object], put: Callable[[Tensor], Place]) -> bytes:
    """The letter of all ``values``, what they share written once; ``put`` puts a tensor of some size aside.

    Raises:
        Exception: Whatever pickle raises for what it cannot write, such as a function or a class made in a function.
    """
    file = io.BytesIO()
    pickler = _Pickler(file, pickle.HIGHEST_PROTOCOL)
    pickler.put = put
    for value in values:
        pickler.dump(value)
    return file.getvalue()


def read(letter: bytes, get: Callable[[Note], Tensor], own: Callable[[Note], Tensor] | None = None) -> Iterator[Any]:
    """The values that ``write`` was given, one at a time.

    Args:
        letter: What ``write`` gave.
        get: Finds what ``put`` put aside.
        own: Finds what came back as it was sent.

    Raises:
        Exception: Whatever pickle raises for what it cannot read; the values after it are lost, too.
    """
    file = io.BytesIO(letter)
    unpickler = _Unpickler(file)
    unpickler.get, unpickler.own = get, own
    while file.tell() < len(letter):
        yield unpickler.load()


def note(tensor: Tensor, away: bool, offset: int, serial: int) -> Note:
    """Notes where a dense tensor's bytes lie.

    Args:
        tensor: In main memory.
        away: Whether it stands for one on another device: it is put on the reader's default device.
        offset: Where.
        serial: Tells it from what lay there before.
    """
    return marshal.dumps((_form(tensor, away), offset, serial))


def opened(note: Note) -> tuple[Form, int]:
    """The form of a tensor, and where its bytes lie."""
    return marshal.loads(note)[:2]


def blank(form: Form) -> Tensor:
    """A fresh tensor in main memory; its values are undefined."""
    return torch.empty_strided(form[0], form[1], dtype=_DTYPES[form[2]], device="cpu")


def placed(tensor: Tensor, form: Form) -> Tensor:
    """A tensor that was read, where it belongs: one that lay on a device, on this process's default device."""
    return tensor.to(torch.get_default_device()) if form[3] else tensor


def fits(tensor: Tensor, form: Form) -> bool:
    """Whether a tensor has this form."""
    same = tensor.shape == form[0] and tensor.stride() == form[1] and tensor.dtype is _DTYPES[form[2]]
    return same and tensor.is_cpu is not form[3]


def inline(tensor: Tensor) -> tuple[Literal["here"], bytes]:
    """The place of a tensor that travels inside the letter."""
    source = host(tensor)
    data = ctypes.string_at(source.data_ptr(), source.nbytes) if source.numel() else b""
    return "here", marshal.dumps((_form(source, not tensor.is_cpu), data))


class _Pickler(pickle.Pickler):
    put: Callable[[Tensor], Place]

    def persistent_id(self, obj: object) -> Place | None:
        if not isinstance(obj, Tensor) or obj.layout is not torch.strided or obj.is_meta:
            return None
        return self.put(obj) if obj.nbytes > INLINE_BYTES else inline(obj)


class _Unpickler(pickle.Unpickler):
    get: Callable[[Note], Tensor]
    own: Callable[[Note], Tensor] | None

    def persistent_load(self, pid: Place) -> Tensor:
        if not isinstance(pid, tuple):
            return self.get(pid)
        if pid[0] == "yours":
            assert self.own is not None
            return self.own(pid[1])
        form, data = marshal.loads(pid[1])
        tensor = blank(form)
        ctypes.memmove(tensor.data_ptr(), data, len(data))
        return placed(tensor, form)


def _form(tensor: Tensor, away: bool) -> Form:
    return tuple(tensor.shape), tensor.stride(), _NUMBERS[tensor.dtype], away
