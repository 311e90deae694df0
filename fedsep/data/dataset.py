"""Hugging Face ``Dataset`` objects; the library itself is not needed here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedsep.core import FedSepError
from fedsep.data.arrow import Table
from fedsep.data.federation import Dealing, Federation, federate
from fedsep.data.imagetable import Wanted, image_source
from fedsep.data.parquet import Share
from fedsep.data.rules import Rule, iid
from fedsep.ranges import Count, NonNegativeInt, checked


@checked
def dataset(
    dataset: Any,
    *,
    test_set: Any = None,
    image: str | None = None,
    label: str | None = None,
    size: Count | None = None,
    name: str = "dataset",
    clients: Count | None = None,
    partition: Rule = iid(),
    validation: NonNegativeInt = 0,
    public: NonNegativeInt | Federation | None = None,
    test: Share = 0.2,
    seed: int = 0,
) -> Federation:
    """Images with classes from a ``datasets.Dataset``, or from a ``DatasetDict`` with ``train`` and perhaps ``test``.

    Args:
        dataset: What has ``with_format("arrow")``, as Hugging Face's data sets do, or a dict of these by split.
        test_set: The test set, where ``dataset`` is the training set alone.
        image: Image column; None: the only one of type Image.
        label: Label column; None: the only one of type ClassLabel, or one called label.
        size: Height and width that images are resized to; needed if they differ.
        name: Of the data set, for messages and results.
        clients: Number of clients; None: as the partition says, else 10.
        partition: Rule by which training samples are dealt.
        validation: Number of training samples held out before the others are dealt.
        public: Number of training samples that become public, unlabelled, before the others are dealt; or another data
            set, whose images become public; None: none.
        test: Share held out for testing, by class, where there is no test set.
        seed: Of everything random here.

    Raises:
        FedSepError: Not such an object, unknown columns, numbers that do not fit the data.
    """
    train = dataset
    if isinstance(dataset, Mapping):
        if "train" not in dataset:
            raise FedSepError(f"dataset must have a split called train (got {', '.join(map(str, dataset))})")
        train, test_set = dataset["train"], test_set if test_set is not None else dataset.get("test")
    tested = None if test_set is None else _table(test_set, "test_set")
    wanted = Wanted(image, label, size, partition.column)
    source = image_source(name, _table(train, "dataset"), tested, wanted)
    return federate(source, Dealing(clients, partition, validation, seed, test, public))


def _table(found: Any, argument: str) -> Table:
    if not hasattr(found, "with_format"):
        raise FedSepError(
            f"{argument} must be a Hugging Face Dataset, or a dict of them by split (got {type(found).__name__})"
        )
    table: Table = found.with_format("arrow")[:]
    features: Any = getattr(found, "features", None)
    return table if features is None else table.replace_schema_metadata(_described(table, features))


def _described(table: Table, features: Mapping[str, Any]) -> dict[bytes, bytes]:
    """The features as the library writes them beside a parquet file's columns, so that one reader serves both."""
    import json

    kinds: dict[str, dict[str, Any]] = {}
    for column, feature in features.items():
        kinds[column] = {"_type": type(feature).__name__}
        if hasattr(feature, "names"):
            kinds[column]["names"] = list(feature.names)
    return {**(table.schema.metadata or {}), b"huggingface": json.dumps({"info": {"features": kinds}}).encode()}
