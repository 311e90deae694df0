"""What this package needs of pyarrow, which comes without types: names for its objects, and its errors as ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fedsep.core import FedSepError

Table = Any
"""A pyarrow.Table."""
Schema = Any
"""A pyarrow.Schema."""
DataType = Any
"""A pyarrow.DataType."""


def read_all(files: Sequence[Path], read: Callable[[Path], Table], what: str) -> Table:
    """The tables of all files one below the other.

    Args:
        files: At least one.
        read: Reads one file.
        what: What a file should be, for the message.

    Raises:
        FedSepError: A file cannot be read, or files have different columns.
    """
    import pyarrow as pa

    tables: list[Table] = []
    for file in files:
        try:
            tables.append(read(file))
        except (pa.ArrowException, OSError) as error:
            raise FedSepError(f"{file}: not a readable {what} ({first_line(error)})") from error
    return stacked(tables, str(files[0].parent))


def stacked(tables: Sequence[Table], name: str) -> Table:
    """Tables one below the other.

    Raises:
        FedSepError: Their columns do not fit together.
    """
    import pyarrow as pa

    if len(tables) == 1:
        return tables[0]
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise FedSepError(f"{name}: its tables have different columns ({first_line(error)})") from error


def first_line(error: Exception) -> str:
    """The first line of an error's message."""
    return (str(error).splitlines() or [type(error).__name__])[0]
