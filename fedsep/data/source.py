"""A data set as it was read, before anything is dealt out, and what every reader does to arrays on the way."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from fedsep.core import FedSepError
from fedsep.data.parts import Indices

Array = npt.NDArray[Any]
Kind = Literal["auto", "classification", "regression"]
"""What the targets are; ``auto`` looks at them."""

MANY = 20
"""Whole numbers with more different values than this are a regression in a table, unless the user says otherwise."""


class Source(NamedTuple):
    """Arrays of a data set, in the order of the source; they may be memory-mapped and are never written to.

    Attributes:
        name: What messages and results call it.
        x: Inputs, (n, channels, height, width) uint8 for images, (n, places) uint8 for text, else floating point, first
            axis samples.
        y: int64 classes 0 .. classes-1, shape (n,), floating-point targets, shape (n,) or (n, k), or for text the next
            bytes, uint8, shape (n, places).
        classes: Number of classes; of outputs for a regression.
        x_test: The source's own test inputs; None: a share of x is held out.
        y_test: Their targets.
        labels: Names of the classes, empty if they have none.
        note: What a reader of results must know about this copy of the data.
        groups: Codes 0 .. groups-1 of training samples by name of the column, for ``natural``.
        scaled: Whether inputs are normalised; for tables, by column.
        histogram: Counts of pixel values in x, shape (channels, 256), None if not counted yet.
    """

    name: str
    x: Array
    y: Array
    classes: int
    x_test: Array | None = None
    y_test: Array | None = None
    labels: tuple[str, ...] = ()
    note: str = ""
    groups: Mapping[str, Indices] = {}
    scaled: bool | npt.NDArray[np.bool_] = True
    histogram: Indices | None = None

    @property
    def categorical(self) -> bool:
        """Whether the targets are classes."""
        return self.y.dtype.kind == "i"


class Targets(NamedTuple):
    """Targets ready for a ``Source``."""

    y: Array
    y_test: Array | None
    classes: int
    labels: tuple[str, ...]


def inputs(x: Array, name: str) -> Array:
    """Inputs in the layout of a ``Source``: images channels first, whole-numbered pixels as uint8, others as floats.

    Raises:
        FedSepError: They are not numbers, or not finite.
    """
    if x.dtype.kind not in "uifb":
        raise FedSepError(f"{name} must be an array of numbers (got dtype {x.dtype})")
    if x.dtype.kind in "uib" and x.dtype != np.uint8 and x.ndim > 2 and x.size and x.min() >= 0 and x.max() <= 255:
        x = x.astype(np.uint8)
    if x.ndim == 1:
        x = x[:, None]
    if x.ndim == 3 and x.dtype == np.uint8:
        x = x[:, None]
    if x.ndim == 4 and x.shape[1] not in (1, 3) and x.shape[3] in (1, 3, 4):
        x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    if x.dtype == np.uint8 and x.ndim == 4:
        return x
    x = x if x.dtype.kind == "f" else x.astype(np.float64)
    bad = int(x.size - np.isfinite(x).sum())
    if bad:
        raise FedSepError(f"{name} has {bad:,} values that are not finite (NaN or infinite)")
    return x


def targets(y: Array, y_test: Array | None, name: str, kind: Kind = "auto", labels: tuple[str, ...] = ()) -> Targets:
    """Targets as classes 0, 1, ... or as floats.

    ``auto`` takes text, truth values and whole numbers for classes and fractions for a regression. Classes
    are numbered in increasing order of the values that occur, unless ``labels`` names what the numbers mean.

    Raises:
        FedSepError: Targets that are missing, or that are not numbers in a regression.
    """
    if kind == "regression" or (kind == "auto" and y.dtype.kind == "f"):
        return _regression(y, y_test, name)
    both = y if y_test is None else np.concatenate([y, y_test])
    if both.ndim != 1:
        raise FedSepError(f"{name} must be one class per sample, of shape (n,) (got shape {y.shape})")
    if labels:
        return _labelled(y, y_test, name, labels)
    if both.dtype.kind == "f" and not np.isfinite(both).all():
        raise FedSepError(f"{name} has targets that are missing or not finite")
    values, codes = np.unique(both, return_inverse=True)
    codes = codes.astype(np.int64)
    test = None if y_test is None else codes[len(y) :]
    names = tuple(str(int(v)) if values.dtype.kind == "f" and v == int(v) else str(v) for v in values.tolist())
    return Targets(codes[: len(y)], test, len(values), names)


def _labelled(y: Array, y_test: Array | None, name: str, labels: tuple[str, ...]) -> Targets:
    for part in (y, y_test):
        if part is not None and len(part) and not (part.min() >= 0 and part.max() < len(labels)):
            wrong = part[(part < 0) | (part >= len(labels))]
            raise FedSepError(
                f"{name} has classes outside of 0 .. {len(labels) - 1} (got {wrong[0]}, {len(wrong):,} times)"
            )
    test = None if y_test is None else y_test.astype(np.int64)
    return Targets(y.astype(np.int64), test, len(labels), labels)


def _regression(y: Array, y_test: Array | None, name: str) -> Targets:
    for part in (y, y_test):
        if part is not None and (part.dtype.kind not in "uifb" or not np.isfinite(part).all()):
            raise FedSepError(f"{name} must be finite numbers for a regression")
    outputs = 1 if y.ndim == 1 else y.shape[1]
    test = None if y_test is None else y_test.astype(np.float64)
    return Targets(y.astype(np.float64), test, outputs, ())


def whole(source: Source) -> Source:
    """The source, if its arrays belong together.

    Raises:
        FedSepError: Different lengths or shapes, or no samples.
    """
    name = source.name
    for part, x, y in (("x", source.x, source.y), ("x_test", source.x_test, source.y_test)):
        if x is not None and (y is None or len(x) != len(y)):
            raise FedSepError(
                f"{name}: {part} has {len(x):,} samples but there are {0 if y is None else len(y):,} targets"
            )
    if len(source.x) == 0:
        raise FedSepError(f"{name}: there are no training samples")
    if source.x_test is not None and source.x_test.shape[1:] != source.x.shape[1:]:
        raise FedSepError(
            f"{name}: test inputs have shape {source.x_test.shape[1:]}, training inputs {source.x.shape[1:]}"
        )
    return source


def column(source: Source, name: str) -> Indices:
    """The codes of a grouping column.

    Raises:
        FedSepError: The source has no such column.
    """
    if name not in source.groups:
        offered = f"it has {', '.join(source.groups) or 'none'}{nearest(name, source.groups)}"
        raise FedSepError(f"natural: {source.name} has no column {name!r} to group by ({offered})")
    return source.groups[name]


def nearest(name: str, offered: Iterable[str]) -> str:
    """``, did you mean 'x'?``, or nothing if no offered name is near."""
    found = difflib.get_close_matches(name, [str(other) for other in offered], n=1)
    return f", did you mean {found[0]!r}?" if found else ""


def grouped(values: Array) -> Indices:
    """Codes 0, 1, ... of a grouping column, in increasing order of its values."""
    return np.unique(values, return_inverse=True)[1].astype(np.int64)
