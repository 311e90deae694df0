"""Columns of a table to numbers: numeric ones as they are, categories one-hot, a target apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fedsep.core import FedSepError
from fedsep.data.arrow import DataType, Table, stacked
from fedsep.data.columns import check_column
from fedsep.data.parts import Indices
from fedsep.data.source import MANY, Array, Kind, Source, grouped, targets

MOST = 256
"""Distinct values that a column may have to become one-hot."""

_NUMBERS = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"


class Wanted(NamedTuple):
    """What to make of which column.

    Attributes:
        target: Column of the targets.
        kind: What the targets are.
        categorical: Columns that are categories although they hold numbers.
        drop: Columns that are no inputs.
        group: Column for ``natural``, no input either; None if there is none.
    """

    target: str
    kind: Kind
    categorical: Sequence[str]
    drop: Sequence[str]
    group: str | None


class _Encoded(NamedTuple):
    """Input columns as numbers; ``scaled`` says which are to be standardised, ``filled`` counts missing values."""

    x: npt.NDArray[np.float64]
    scaled: npt.NDArray[np.bool_]
    filled: int


def table_source(name: str, train: Table, test: Table | None, wanted: Wanted) -> Source:
    """Encodes both tables alike.

    Missing numbers become the training mean (NaN here), missing categories a category of their own.

    Raises:
        FedSepError: Unknown columns, missing targets, too many categories.
    """
    _check(name, train, wanted)
    if test is not None and set(train.column_names) - set(test.column_names):
        lacking = sorted(set(train.column_names) - set(test.column_names))
        raise FedSepError(f"{name}: the test table lacks the columns {', '.join(lacking)}")
    both = train if test is None else stacked([train, test.select(train.column_names)], name)
    inputs = _inputs(name, both, wanted)
    y = _targets(name, both, wanted)
    count = train.num_rows
    found = targets(y, None, f"{name}: target {wanted.target!r}", _kind(y, wanted.kind))
    x_test, y_test = (inputs.x[count:], found.y[count:]) if test is not None else (None, None)
    note = f"{inputs.filled:,} missing numbers set to the training mean" if inputs.filled else ""
    return Source(
        name, inputs.x[:count], found.y[:count], found.classes, x_test, y_test, found.labels, note,
        _groups(name, train, wanted.group), inputs.scaled,
    )  # fmt: skip


def roles(table: Table, wanted: Wanted) -> list[tuple[str, str]]:
    """What is made of each column, in words, with the type that was read: to see whether it was understood."""
    return [(name, _role(name, table[name], wanted)) for name in table.column_names]


def _role(name: str, values: Any, wanted: Wanted) -> str:
    apart = {
        wanted.target: "the target, ",
        wanted.group: "deals out the rows, ",
        **dict.fromkeys(wanted.drop, "left out, "),
    }
    missing = f", {values.null_count:,} missing" if values.null_count else ""
    different = f"{len(values.unique()):,} different values"
    kind = f"categories, {different}" if name in wanted.categorical else f"{values.type}, {different}"
    return f"{apart.get(name, '')}{kind}{missing}"


def _check(name: str, table: Table, wanted: Wanted) -> None:
    import pyarrow as pa

    offered = list(table.column_names)
    twice = sorted({column for column in offered if offered.count(column) > 1})
    if twice:
        raise FedSepError(f"{name}: column {twice[0]!r} occurs more than once in the header")
    check_column(wanted.target, offered, name, "target")
    for argument, given in (("categorical", wanted.categorical), ("drop", wanted.drop)):
        for column in given:
            check_column(column, offered, name, argument)
    if wanted.group is not None:
        check_column(wanted.group, offered, name, "natural: column")
    for column in offered:
        if pa.types.is_binary(table.schema.field(column).type):
            raise FedSepError(f"{name}: column {column!r} is not text in UTF-8: is this a table of text?")


def _inputs(name: str, table: Table, wanted: Wanted) -> _Encoded:
    apart = {wanted.target, wanted.group, *wanted.drop}
    parts = [_column(name, c, table[c], c in wanted.categorical) for c in table.column_names if c not in apart]
    if not parts:
        raise FedSepError(f"{name}: there are no input columns beside {', '.join(sorted(filter(None, apart)))}")
    x = np.concatenate([part.x for part in parts], axis=1)
    return _Encoded(x, np.concatenate([part.scaled for part in parts]), sum(part.filled for part in parts))


def _column(name: str, column: str, values: Any, categorical: bool) -> _Encoded:
    import pyarrow as pa

    kind: DataType = values.type
    if pa.types.is_boolean(kind) and not categorical and not values.null_count:
        return _Encoded(values.to_numpy().astype(np.float64)[:, None], np.array([False]), 0)
    if (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)) and not categorical:
        x = values.cast(pa.float64()).to_numpy()
        if np.isinf(x).any():
            raise FedSepError(f"{name}: column {column!r} has infinite values")
        return _Encoded(x[:, None].astype(np.float64), np.array([True]), int(np.isnan(x).sum()))
    return _one_hot(name, column, ["(missing)" if value is None else str(value) for value in values.to_pylist()])


def _one_hot(name: str, column: str, values: list[str]) -> _Encoded:
    categories, codes = np.unique(np.array(values), return_inverse=True)
    if len(categories) > MOST:
        raise FedSepError(f"{name}: column {column!r} has {len(categories):,} different values{_stray(values)}")
    return _Encoded(
        (codes[:, None] == np.arange(len(categories))).astype(np.float64), np.zeros(len(categories), bool), 0
    )


def _stray(values: list[str]) -> str:
    """What to do about a column of many values: mend the ones that are no numbers, or leave it out."""
    import re

    wrong = [(row, value) for row, value in enumerate(values) if value != "(missing)" and not re.match(_NUMBERS, value)]
    if 0 < len(wrong) <= len(values) // 2:
        row, value = wrong[0]
        return f", and {len(wrong):,} of them are no numbers, the first {value!r} in row {row + 1}: mend or empty these"
    return f", too many for categories (at most {MOST}): leave it out with drop"


def _targets(name: str, table: Table, wanted: Wanted) -> Array:
    import pyarrow as pa

    column: Any = table[wanted.target]
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise FedSepError(
            f"{name}: target {wanted.target!r} is missing in {column.null_count:,} rows, the first is row {row + 1}"
        )
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    found = column.to_numpy()
    return np.array([str(value) for value in column.to_pylist()]) if found.dtype.kind not in "uifb" else found


def _kind(y: Array, kind: Kind) -> Kind:
    """Fractions are a regression, and so are whole numbers of many different values."""
    if kind != "auto" or y.dtype.kind not in "uif":
        return kind
    whole = bool((y == np.rint(y)).all())
    return "classification" if whole and len(np.unique(y)) <= MANY else "regression"


def _groups(name: str, table: Table, column: str | None) -> dict[str, Indices]:
    if column is None:
        return {}
    return {column: grouped(np.array([str(value) for value in table[column].to_pylist()]))}
