"""Tables in .csv files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedsep.core import FedSepError
from fedsep.data.arrow import Table, read_all
from fedsep.data.cache import cached
from fedsep.data.federation import Dealing, Federation, federate
from fedsep.data.parquet import Share
from fedsep.data.rules import Rule, iid
from fedsep.data.search import locate, splits
from fedsep.data.source import Kind, Source
from fedsep.data.tables import Wanted, roles, table_source
from fedsep.ranges import Count, NonNegativeInt, checked

_SUFFIXES = (".csv", ".tsv")
_MISSING = ["", "?", "NA", "N/A", "NaN", "nan", "null", "NULL"]


@checked
def csv(
    path: str | Path,
    *,
    target: str,
    kind: Kind = "auto",
    categorical: Sequence[str] = (),
    drop: Sequence[str] = (),
    delimiter: str | None = None,
    clients: Count | None = None,
    partition: Rule = iid(),
    validation: NonNegativeInt = 0,
    public: NonNegativeInt | Federation | None = None,
    test: Share = 0.2,
    seed: int = 0,
    data_dir: str | Path | None = None,
) -> Federation:
    """A table with a header line: every column but the target is an input.

    Numbers are standardised by the training samples' mean and deviation, with missing ones at the mean; text
    becomes one-hot, with missing as a category; true and false become 1 and 0.

    Args:
        path: The file, or a folder with files for training and testing (``train.csv``, ``test.csv``); a relative path
            is also looked for in the data folders.
        target: Column of the targets.
        kind: What the targets are; ``auto``: text, truth values and whole numbers of at most 20 different values are
            classes, other numbers a regression.
        categorical: Columns of numbers that are categories.
        drop: Columns that are no inputs, such as a row number.
        delimiter: Between the columns; None: a comma, or a tab in .tsv files.
        clients: Number of clients; None: as the partition says, else 10.
        partition: Rule by which training samples are dealt; the column of ``natural`` is no input.
        validation: Number of training samples held out before the others are dealt.
        public: Number of training samples that become public, unlabelled, before the others are dealt; or another data
            set, whose images become public; None: none.
        test: Share held out for testing, by class, where there is no test file.
        seed: Of everything random here.
        data_dir: First of the folders that are searched.

    Raises:
        FedSepError: A file that is missing or unreadable, unknown columns, numbers that do not fit the data.
    """
    if delimiter is not None and len(delimiter) != 1:
        raise FedSepError(f"delimiter must be one character (got {delimiter!r})")
    file = locate(path, data_dir)
    train, tested = splits(file, _SUFFIXES)
    wanted = Wanted(target, kind, tuple(categorical), tuple(drop), partition.column)

    def read() -> Source:
        return table_source(file.stem, _table(train, delimiter), _table(tested, delimiter) if tested else None, wanted)

    source = cached(file.stem, [*train, *tested], ["csv", len(train), wanted, delimiter], read)
    return federate(source, Dealing(clients, partition, validation, seed, test, public))


def columns(
    path: str | Path,
    *,
    target: str,
    categorical: Sequence[str] = (),
    drop: Sequence[str] = (),
    delimiter: str | None = None,
    partition: Rule = iid(),
    **_: object,
) -> list[tuple[str, str]]:
    """The columns of a table that ``csv`` reads with these arguments, in words: what each is, and its type.

    Raises:
        FedSepError: The file is missing or unreadable.
    """
    train, _tested = splits(locate(path), _SUFFIXES)
    return roles(_table(train, delimiter), Wanted(target, "auto", tuple(categorical), tuple(drop), partition.column))


def _table(files: Sequence[Path], delimiter: str | None) -> Table:
    from pyarrow import csv as reader

    options = reader.ConvertOptions(strings_can_be_null=True, null_values=_MISSING)

    def read(file: Path) -> Table:
        between = delimiter or ("\t" if file.suffix.lower() == ".tsv" else ",")
        return reader.read_csv(file, parse_options=reader.ParseOptions(delimiter=between), convert_options=options)

    return read_all(files, read, "table")
