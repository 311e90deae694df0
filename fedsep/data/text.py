"""Text as windows of bytes, of which the next byte is to be told at every place."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fedsep.core import FedSepError
from fedsep.data.federation import Dealing, Federation, federate
from fedsep.data.parquet import Share
from fedsep.data.parts import Indices
from fedsep.data.rules import Rule, blocks
from fedsep.data.search import locate
from fedsep.data.source import Source
from fedsep.ranges import Count, NonNegativeInt, checked
from fedsep.report.wording import plural

_SYMBOLS = 256
_Bytes = npt.NDArray[np.uint8]


class _Windows(NamedTuple):
    """Windows with one byte more than the context, those of one file after those of another.

    Attributes:
        bytes: uint8, shape (windows, context + 1).
        file: The file of each.
    """

    bytes: _Bytes
    file: Indices


@checked
def text(
    path: str | Path | None = None,
    *,
    pattern: str | None = None,
    context: Count = 64,
    limit: Count | None = 1_000_000,
    clients: Count | None = None,
    partition: Rule = blocks(),
    validation: NonNegativeInt = 0,
    test: Share = 0.1,
    seed: int = 0,
    data_dir: str | Path | None = None,
) -> Federation:
    """Bytes of text files, cut into windows; the target at each place is the byte that follows.

    Without ``path`` it is the source of Python's own standard library (the modules in the folder of ``os``, under the
    PSF licence), which is there wherever this runs. It is not the same in every version of Python, so that results
    compare within one version only; the federation's note says which.

    Args:
        path: A file, or a folder; a relative path is also looked for in the data folders.
        pattern: Which files of the folder, as ``**/*.txt``; None: that, and ``*.py`` of the standard library.
        context: Bytes of one input, C. Windows of a file follow each other without overlap; a rest of fewer than C
            bytes at its end is left out, and so are files of at most C bytes.
        limit: Bytes that are read at most, file after file in the order of their paths; None: all. An evaluation holds
            256 scores, 1 kB, for each byte of the test windows.
        clients: Number of clients; None: as the partition says, else 10.
        partition: Rule by which training windows are dealt: ``blocks`` (neighbouring windows stay together), ``iid``,
            or ``natural`` with the column ``file``: one client per file.
        validation: Number of training windows held out, at random, before the others are dealt.
        test: Share of the windows that is held out for testing: the last ones of every file.
        seed: Of everything random here.
        data_dir: First of the folders that are searched.

    Raises:
        FedSepError: No such folder, no files in it, too little text for one window to learn from and one to test on, or
            numbers that do not fit the data.
    """
    root = _standard_library() if path is None else locate(path, data_dir)
    name = "python" if path is None else root.stem if root.is_file() else root.resolve().name
    files = _files(root, pattern, "*.py" if path is None else "**/*.txt")
    read = list(_read(files, limit))
    source = _source(name, root, _windows(read, context), context, test)
    return federate(
        source._replace(note=_note(path, files, read, limit)), Dealing(clients, partition, validation, seed)
    )


def _standard_library() -> Path:
    found = Path(os.__file__).parent
    if not found.is_dir():
        raise FedSepError(
            "text: this Python keeps its standard library in an archive, where it cannot be read: name a folder of "
            "text by path"
        )
    return found


def _files(root: Path, wanted: str | None, usual: str) -> list[Path]:
    """Files in the order of their paths below the root, whatever the file system's order is."""
    if root.is_file():
        if wanted is not None:
            raise FedSepError(f"text: pattern says which files of a folder, and {root} is a file (got {wanted!r})")
        return [root]
    pattern = usual if wanted is None else wanted
    try:
        if ".." in Path(pattern).parts:
            raise ValueError("..")
        found = [file for file in root.glob(pattern) if file.is_file()]
    except (ValueError, NotImplementedError) as error:
        raise FedSepError(f"text: pattern must be one below the folder, as **/*.txt (got {pattern!r})") from error
    if not found:
        raise FedSepError(f"{root}: there are no files {pattern} in it; pattern says which are taken, as '**/*.md'")
    return sorted(found, key=lambda file: file.relative_to(root).parts)


def _read(files: Sequence[Path], limit: int | None) -> Iterator[_Bytes]:
    """The bytes of each file, until there are enough."""
    left = limit
    for file in files:
        if left == 0:
            return
        try:
            with file.open("rb") as stream:
                data = stream.read() if left is None else stream.read(left)
        except OSError as error:
            raise FedSepError(f"{file}: cannot be read ({error.strerror or error})") from error
        left = None if left is None else left - len(data)
        yield np.frombuffer(data, np.uint8)


def _windows(read: Sequence[_Bytes], context: int) -> list[_Bytes]:
    """Windows of C + 1 bytes of each file: the last byte of one is the first of the next."""
    made: list[_Bytes] = []
    for data in read:
        count = max(0, (len(data) - 1) // context)
        views = np.lib.stride_tricks.sliding_window_view(data, context + 1)[: count * context : context] if count else (
            np.empty((0, context + 1), np.uint8))  # fmt: skip
        made.append(views)
    return made


def _source(name: str, root: Path, windows: Sequence[_Bytes], context: int, test: float) -> Source:
    """Training and test windows; a share of every file, rounded so that it is right over all of them."""
    sizes = np.array([len(each) for each in windows])
    total = int(sizes.sum())
    tested = np.diff(np.floor(np.cumsum(sizes) * test + 1e-9).astype(np.int64), prepend=0).clip(max=sizes)
    if not 0 < tested.sum() < total:
        raise FedSepError(
            f"{root}: {total:,} windows of context {context} are too few for one to learn from and a share {test:g} to "
            "test on: give more text, a smaller context, or another share test"
        )
    train = _joined([each[: len(each) - held] for each, held in zip(windows, tested, strict=True)])
    held = _joined([each[len(each) - held :] for each, held in zip(windows, tested, strict=True)])
    return Source(
        name,
        train.bytes[:, :-1],
        train.bytes[:, 1:],
        _SYMBOLS,
        held.bytes[:, :-1],
        held.bytes[:, 1:],
        groups={"file": train.file},
    )


def _joined(parts: Sequence[_Bytes]) -> _Windows:
    return _Windows(np.concatenate(parts), np.repeat(np.arange(len(parts)), [len(part) for part in parts]))


def _note(path: object, files: Sequence[Path], read: Sequence[_Bytes], limit: int | None) -> str:
    """What the text is, and whether it is all of it."""
    size = sum(len(data) for data in read)
    origin = f"the standard library of Python {platform.python_version()}, " if path is None else ""
    whole = len(read) == len(files) and (limit is None or size < limit)
    count = f"{len(read)} of {len(files)} files" if len(read) < len(files) else plural(len(files), "file")
    return f"{origin}{'' if whole else 'the first '}{size:,} bytes, {count}"
