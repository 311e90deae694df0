"""Arrow tables with an image column and a label column, as Hugging Face writes them, to a ``Source``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fedsep.core import FedSepError
from fedsep.data.arrow import DataType, Table
from fedsep.data.columns import Columns, check_column, columns
from fedsep.data.images import Size, decode, is_jpeg
from fedsep.data.parts import Indices
from fedsep.data.source import Array, Source, grouped, targets

LOSSY = "read from a lossy copy (JPEG), so absolute figures are not comparable with published ones"
"""The note of a data set whose original is lossless."""


class Wanted(NamedTuple):
    """What to read.

    Attributes:
        image: Image column, None to find it.
        label: Label column, None to find it.
        size: Size that images are resized to, None to leave them.
        group: Column for ``natural``, None if there is none.
        lossless: Whether the data set's original is lossless, so that a JPEG is worth a note.
    """

    image: str | None = None
    label: str | None = None
    size: Size | None = None
    group: str | None = None
    lossless: bool = False


def image_source(name: str, train: Table, test: Table | None, wanted: Wanted, folder: Path | None = None) -> Source:
    """Decodes both tables.

    Args:
        name: Of the data set, for messages.
        train: Training samples.
        test: Test samples with the same columns, if there are any.
        wanted: What to read of them.
        folder: Where images lie that the table names by a path only.

    Raises:
        FedSepError: Unknown columns, missing or unreadable values.
    """
    found = columns(train.schema, name, wanted.image, wanted.label)
    blobs = _blobs(train, found.image, name, folder)
    x = decode(blobs, wanted.size, name)
    x_test, y_test = None, None
    if test is not None:
        for column in (found.image, found.label):
            check_column(column, test.column_names, f"{name}'s test set", "column")
        x_test = decode(
            _blobs(test, found.image, name, folder), x.shape[2:], f"{name}'s test set", grey=x.shape[1] == 1
        )
        y_test = _labels(test, found, name)
    y = targets(_labels(train, found, name), y_test, f"{name}: column {found.label!r}", "classification", found.labels)
    return Source(
        name, x, y.y, y.classes, x_test, y.y_test, y.labels,
        note=LOSSY if wanted.lossless and is_jpeg(blobs) else "",
        groups=_groups(train, wanted.group, name),
    )  # fmt: skip


def _blobs(table: Table, column: str, name: str, folder: Path | None) -> Sequence[bytes | Path]:
    import pyarrow as pa
    import pyarrow.compute as pc

    found: Any = table[column]
    if not pa.types.is_struct(found.type):
        return _present(found.to_pylist(), name, column)
    blobs: list[bytes | None] = pc.struct_field(found, "bytes").to_pylist()  # type: ignore[attr-defined]
    if None not in blobs or folder is None:
        return _present(blobs, name, column)
    paths: list[str | None] = pc.struct_field(found, "path").to_pylist()  # type: ignore[attr-defined]
    both = [b if b is not None else p and folder / p for b, p in zip(blobs, paths, strict=True)]
    return _present(both, name, column)


def _present(values: Sequence[Any], name: str, column: str) -> Sequence[Any]:
    empty = [i for i, value in enumerate(values) if value is None]
    if empty:
        raise FedSepError(f"{name}: column {column!r} has {len(empty):,} missing values, the first in row {empty[0]}")
    return values


def _labels(table: Table, found: Columns, name: str) -> Array:
    column: Any = table[found.label]
    _present(column.to_pylist() if column.null_count else [], name, found.label)
    return column.to_numpy().astype(np.str_) if column.type in _texts() else column.to_numpy()


def _texts() -> tuple[DataType, ...]:
    import pyarrow as pa

    return (pa.string(), pa.large_string())


def _groups(table: Table, column: str | None, name: str) -> dict[str, Indices]:
    if column is None:
        return {}
    check_column(column, table.column_names, name, "natural: column")
    values = _present(table[column].to_pylist(), name, column)
    return {column: grouped(np.array(values))}
