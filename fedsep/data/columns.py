"""Which column of a Hugging Face table is the image and which the label, and what the labels are called."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fedsep.core import FedSepError
from fedsep.data.arrow import DataType, Schema
from fedsep.data.source import nearest

_LABELS = ("label", "labels", "fine_label", "target", "class", "y")


class Columns(NamedTuple):
    """Names of the image and label columns, and of the classes (empty if the table does not say)."""

    image: str
    label: str
    labels: tuple[str, ...]


def columns(schema: Schema, name: str, image: str | None, label: str | None) -> Columns:
    """Finds the columns by their features or types, unless they are given.

    Raises:
        FedSepError: A given column does not exist, or what is not given cannot be told.
    """
    features = _features(schema)
    images = [
        n for n in schema.names if features.get(n, {}).get("_type") == "Image" or _holds_images(schema.field(n).type)
    ]
    image = _choose(schema, name, "image", image, images)
    labels = [n for n in schema.names if features.get(n, {}).get("_type") == "ClassLabel"]
    if len(labels) != 1:
        by_name = [n for n in _LABELS if n in schema.names and n != image]
        labels = (
            labels or by_name[:1] or [n for n in schema.names if n != image and _holds_classes(schema.field(n).type)]
        )
    label = _choose(schema, name, "label", label, labels)
    return Columns(image, label, tuple(features.get(label, {}).get("names") or ()))


def check_column(column: str, offered: list[str], name: str, argument: str) -> str:
    """The column's name.

    Raises:
        FedSepError: There is no such column; the message names the nearest one.
    """
    if column not in offered:
        shown = ", ".join(offered[:20]) + (", ..." if len(offered) > 20 else "")
        raise FedSepError(
            f"{argument} must be a column of {name} (got {column!r}{nearest(column, offered)} Columns: {shown})"
        )
    return column


def _choose(schema: Schema, name: str, what: str, given: str | None, found: list[str]) -> str:
    if given is not None:
        return check_column(given, list(schema.names), name, what)
    if len(found) != 1:
        among = f"{', '.join(found)} could be it" if found else f"its columns are {', '.join(schema.names)}"
        raise FedSepError(f"{what} must name a column of {name}: which one cannot be told ({among})")
    return found[0]


def _features(schema: Schema) -> Mapping[str, Mapping[str, Any]]:
    """The features that Hugging Face's libraries write beside the columns; empty if they are not there."""
    try:
        return json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}


def _holds_images(kind: DataType) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return {"bytes", "path"} <= {field.name for field in kind}
    return _is(kind, pa.types.is_binary, pa.types.is_large_binary)


def _holds_classes(kind: DataType) -> bool:
    import pyarrow as pa

    return _is(kind, pa.types.is_integer, pa.types.is_string, pa.types.is_large_string, pa.types.is_boolean)


def _is(kind: DataType, *tests: Callable[[DataType], bool]) -> bool:
    return any(test(kind) for test in tests)
