"""Arrays in memory, and .npz files of arrays."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fedsep.core import FedSepError
from fedsep.data.arrow import first_line
from fedsep.data.cache import cached
from fedsep.data.federation import Dealing, Federation, federate
from fedsep.data.parquet import Share
from fedsep.data.parts import Indices
from fedsep.data.rules import Rule, iid
from fedsep.data.search import locate
from fedsep.data.source import Array, Kind, Source, grouped, inputs, targets
from fedsep.ranges import Count, NonNegativeInt, checked

_NAMES = ("x_train", "y_train", "x_test", "y_test")


@checked
def arrays(
    x: Array | Tensor,
    y: Array | Tensor,
    *,
    x_test: Array | Tensor | None = None,
    y_test: Array | Tensor | None = None,
    groups: Mapping[str, Any] | None = None,
    kind: Kind = "auto",
    normalise: bool = True,
    name: str = "arrays",
    clients: Count | None = None,
    partition: Rule = iid(),
    validation: NonNegativeInt = 0,
    test: Share = 0.2,
    seed: int = 0,
) -> Federation:
    """Data in memory: numpy arrays, or tensors on any device, which are copied to main memory.

    Args:
        x: Inputs, first axis samples: (n, features), or images (n, height, width), (n, channels, height, width) or
            (n, height, width, channels). Images of whole numbers from 0 to 255 are kept as uint8.
        y: Classes of any type, or floating-point targets of a regression, shape (n,) or (n, outputs).
        x_test: Test inputs; None: a share of x is held out.
        y_test: Their targets.
        groups: Columns for ``natural``: one value per training sample, by name.
        kind: What y is; ``auto``: a regression if y is floating point.
        normalise: Whether inputs get mean 0 and standard deviation 1, per feature or channel, by training samples;
            otherwise uint8 images are divided by 255 and the rest is left as it is.
        name: Of the data set, for messages and results.
        clients: Number of clients; None: as the partition says, else 10.
        partition: Rule by which training samples are dealt.
        validation: Number of training samples held out before the others are dealt.
        test: Share held out for testing, by class, where there is no test set.
        seed: Of everything random here.

    Raises:
        FedSepError: Arrays that do not belong together or are not finite, numbers that do not fit the data.
    """
    given = dict(zip(_NAMES, (x, y, x_test, y_test), strict=True))
    held = {part: _array(values, part) for part, values in given.items() if values is not None}
    codes = {column: _group(values, column, len(held["x_train"])) for column, values in (groups or {}).items()}
    source = _source(name, held, kind)._replace(groups=codes, scaled=normalise)
    return federate(source, Dealing(clients, partition, validation, seed, test))


@checked
def npz(
    path: str | Path,
    *,
    kind: Kind = "auto",
    normalise: bool = True,
    clients: Count | None = None,
    partition: Rule = iid(),
    validation: NonNegativeInt = 0,
    test: Share = 0.2,
    seed: int = 0,
    data_dir: str | Path | None = None,
) -> Federation:
    """An .npz file with ``x_train``, ``y_train``, ``x_test``, ``y_test``, or ``x`` and ``y`` without a test set.

    Args:
        path: The file; a relative path is also looked for in the data folders. Arrays are as in ``arrays``.
        kind: What the targets are; ``auto``: a regression if they are floating point.
        normalise: Whether inputs get mean 0 and standard deviation 1, per feature or channel, by training samples;
            otherwise uint8 images are divided by 255 and the rest is left as it is.
        clients: Number of clients; None: as the partition says, else 10.
        partition: Rule by which training samples are dealt; ``natural`` names an array of the file.
        validation: Number of training samples held out before the others are dealt.
        test: Share held out for testing, by class, where there is no test set.
        seed: Of everything random here.
        data_dir: First of the folders that are searched.

    Raises:
        FedSepError: A file that is missing, corrupt or lacks an array, numbers that do not fit the data.
    """
    file = locate(path, data_dir)
    options = ["npz", kind, partition.column]
    source = cached(file.stem, [file], options, lambda: _read(file, kind, partition.column))
    return federate(source._replace(scaled=normalise), Dealing(clients, partition, validation, seed, test))


def _read(path: Path, kind: Kind, group: str | None) -> Source:
    try:
        with path.open("rb") as stream:
            if not zipfile.is_zipfile(stream):  # numpy would take it for a pickle, and advise to load it unsafely
                raise zipfile.BadZipFile("it is no zip archive, or an incomplete one")
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as file:
                held: dict[str, Array] = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise FedSepError(
            f"{path}: not a readable .npz file of plain arrays ({error or type(error).__name__})"
        ) from error
    held = {{"x": "x_train", "y": "y_train", "X": "x_train"}.get(name, name): array for name, array in held.items()}
    lacking = [name for name in _NAMES if name not in held]
    if "x_train" in lacking or "y_train" in lacking or len(lacking) == 1:
        raise FedSepError(
            f"{path}: needs the arrays x_train, y_train, x_test, y_test, or x and y (got {', '.join(held)})"
        )
    codes = {group: _group(held[group], group, len(held["x_train"]))} if group in held else {}
    return _source(path.stem, held, kind)._replace(groups=codes)


def _source(name: str, held: Mapping[str, Array], kind: Kind) -> Source:
    y = targets(held["y_train"], held.get("y_test"), f"{name}: y", kind)
    x, x_test = held["x_train"], held.get("x_test")
    x = inputs(x, f"{name}: x")
    if x_test is not None:
        x_test = inputs(x_test, f"{name}: x_test").astype(x.dtype)
    return Source(name, x, y.y, y.classes, x_test, y.y_test, y.labels)


def _array(values: Any, name: str) -> Array:
    name = name.removesuffix("_train")
    try:
        found = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    except (ValueError, TypeError) as error:
        raise FedSepError(f"{name} must be a rectangular array ({first_line(error)})") from error
    if found.dtype == object:
        raise FedSepError(f"{name} must be a rectangular array of numbers (got objects)")
    return found


def _group(values: Any, column: str, count: int) -> Indices:
    found = np.asarray(values)
    if found.shape != (count,):
        raise FedSepError(
            f"groups must have one value per training sample: {column!r} has shape {found.shape} for {count:,}"
        )
    return grouped(found)
