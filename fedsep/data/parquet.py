"""Image-classification data in Hugging Face parquet layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from fedsep.data.arrow import Table, read_all
from fedsep.data.cache import cached
from fedsep.data.federation import Dealing, Federation, federate
from fedsep.data.imagetable import Wanted, image_source
from fedsep.data.rules import Rule, iid
from fedsep.data.search import locate, splits
from fedsep.data.source import Source
from fedsep.ranges import Count, NonNegativeInt, Range, checked

Share = Annotated[float, Range(gt=0, lt=1)]
"""A share of the samples, neither none nor all."""


@checked
def parquet(
    path: str | Path,
    *,
    image: str | None = None,
    label: str | None = None,
    size: Count | None = None,
    clients: Count | None = None,
    partition: Rule = iid(),
    validation: NonNegativeInt = 0,
    public: NonNegativeInt | Federation | None = None,
    test: Share = 0.2,
    seed: int = 0,
    data_dir: str | Path | None = None,
) -> Federation:
    """Images with classes from the parquet files of a Hugging Face data set.

    Files are found anywhere below the folder; those whose name or folder speaks of ``test`` are the test set, or
    those of ``validation`` if there is none.

    Args:
        path: Folder, or one file; a relative path is also looked for in the data folders.
        image: Image column; None: the only one of type Image.
        label: Label column; None: the only one of type ClassLabel, or one called label.
        size: Height and width that images are resized to; needed if they differ.
        clients: Number of clients; None: as the partition says, else 10.
        partition: Rule by which training samples are dealt.
        validation: Number of training samples held out before the others are dealt.
        public: Number of training samples that become public, unlabelled, before the others are dealt; or another data
            set, whose images become public; None: none.
        test: Share held out for testing, by class, where there is no test set.
        seed: Of everything random here.
        data_dir: First of the folders that are searched.

    Raises:
        FedSepError: Files that are missing or unreadable, unknown columns, numbers that do not fit the data.
    """
    folder = locate(path, data_dir)
    source = parquet_source(folder.stem, folder, Wanted(image, label, size, partition.column))
    return federate(source, Dealing(clients, partition, validation, seed, test, public))


def parquet_source(name: str, folder: Path, wanted: Wanted) -> Source:
    """The decoded parquet files below a folder, from the cache if they were decoded before."""
    train, test = splits(folder, (".parquet",))
    root = folder if folder.is_dir() else folder.parent

    def read() -> Source:
        return image_source(name, _table(train), _table(test) if test else None, wanted, root)

    return cached(name, [*train, *test], [name, "parquet", len(train), wanted], read)


def _table(files: Sequence[Path]) -> Table:
    import pyarrow.parquet as pq

    return read_all(files, lambda file: pq.ParquetFile(file).read(), "parquet file")
