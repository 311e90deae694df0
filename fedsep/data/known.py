"""Data sets known by name: ``digits`` comes with scikit-learn, the others are looked for."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np

from fedsep.core import FedSepError
from fedsep.data.federation import Dealing, Federation, federate
from fedsep.data.hub import download as fetch
from fedsep.data.imagetable import Wanted
from fedsep.data.parquet import Share, parquet_source
from fedsep.data.rules import Rule, iid
from fedsep.data.search import find, missing
from fedsep.data.source import Source, targets
from fedsep.ranges import Count, NonNegativeInt, checked

KNOWN = {"mnist": "ylecun/mnist", "cifar10": "uoft-cs/cifar10", "cifar100": "uoft-cs/cifar100"}
"""Data sets that are looked for, with their repositories on the Hugging Face hub."""

ASK = "add --download (in Python download=True)"
"""How one asks for a data set to be fetched."""

FETCH = f"{ASK}, which needs pip install 'fedsep[hf]', or "
"""Of the ways to get a data set, the one that does it by itself."""


@checked
def digits(
    *,
    clients: Count | None = None,
    partition: Rule = iid(),
    validation: NonNegativeInt = 0,
    public: NonNegativeInt | Federation | None = None,
    test: Share = 0.2,
    seed: int = 0,
) -> Federation:
    """Handwritten digits, 1,797 grey images of 8 x 8 pixels in 10 classes; they come with scikit-learn.

    Args:
        clients: Number of clients; None: as the partition says, else 10.
        partition: Rule by which training samples are dealt.
        validation: Number of training samples held out before the others are dealt.
        public: Number of training samples that become public, unlabelled, before the others are dealt; or another data
            set, whose images become public; None: none.
        test: Share held out for testing, by class.
        seed: Of everything random here.

    Raises:
        FedSepError: Numbers that do not fit the data.
    """
    return federate(_digits(), Dealing(clients, partition, validation, seed, test, public))


def _digits() -> Source:
    """Read from scikit-learn's file itself: its loaders take a second to import."""
    import gzip
    from importlib.util import find_spec

    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise FedSepError("digits: the data come with scikit-learn, which is not installed: pip install scikit-learn")
    file = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
    try:
        with gzip.open(file, "rt") as stream:
            table = np.loadtxt(stream, delimiter=",", dtype=np.int64)
    except (OSError, ValueError) as error:
        raise FedSepError(f"digits: {file} cannot be read ({error}); reinstall scikit-learn") from error
    found = targets(table[:, -1], None, "digits", labels=tuple("0123456789"))
    return Source(
        "digits", table[:, :-1].astype(np.uint8).reshape(-1, 1, 8, 8), found.y, found.classes, labels=found.labels
    )


class Dealt(TypedDict, total=False):
    """The arguments of ``stored`` that the data sets take: what they mean is said there."""

    clients: Count | None
    partition: Rule
    validation: NonNegativeInt
    public: NonNegativeInt | Federation | None
    seed: int
    data_dir: str | Path | None
    download: bool


def stored(
    name: str,
    repository: str,
    label: str | None = None,
    *,
    clients: Count | None = None,
    partition: Rule = iid(),
    validation: NonNegativeInt = 0,
    public: NonNegativeInt | Federation | None = None,
    seed: int = 0,
    data_dir: str | Path | None = None,
    download: bool = False,
) -> Federation:
    """A data set of the Hugging Face hub, looked for as ``NAME/**/*.parquet``.

    The folders are ``data_dir``, FEDSEP_DATA, the user's cache and a data folder beside the checkout.

    Args:
        name: Of the data set and of its folder.
        repository: On the hub.
        label: Column of the targets; None: the one there is.
        clients: Number of clients; None: as the partition says, else 10.
        partition: Rule by which training samples are dealt.
        validation: Number of training samples held out before the others are dealt.
        public: Number of training samples that become public, unlabelled, before the others are dealt; or another data
            set, whose images become public; None: none.
        seed: Of everything random here.
        data_dir: First of the folders that are searched.
        download: Whether to fetch what is not found from the Hugging Face hub (extra ``hf``).

    Raises:
        FedSepError: The data are missing or unreadable, or numbers do not fit them.
    """
    folder = find(name, ".parquet", data_dir)
    if folder is None and download:
        folder = fetch(name, repository)
    if folder is None:
        raise missing(name, data_dir, cure(name, repository))
    source = parquet_source(name, folder, Wanted(label=label, group=partition.column, lossless=True))
    return federate(source, Dealing(clients, partition, validation, seed, public=public))


@checked(takes=stored)
def mnist(**dealt: Unpack[Dealt]) -> Federation:
    """Handwritten digits, 60,000 training and 10,000 test images of 28 x 28 grey pixels in 10 classes.

    Looked for as ``mnist/**/*.parquet`` in ``data_dir``, in FEDSEP_DATA, in the user's cache and in a data folder
    beside the checkout.

    Args:
        **dealt: How it is dealt and where it is looked for: what ``data.known.stored`` takes.
    """
    return stored("mnist", KNOWN["mnist"], **dealt)


@checked(takes=stored)
def cifar10(**dealt: Unpack[Dealt]) -> Federation:
    """Objects and animals, 50,000 training and 10,000 test images of 32 x 32 colour pixels in 10 classes.

    Looked for as ``cifar10/**/*.parquet``; a copy made of JPEG images is lossy, which the federation's note says.

    Args:
        **dealt: How it is dealt and where it is looked for: what ``data.known.stored`` takes.
    """
    return stored("cifar10", KNOWN["cifar10"], **dealt)


@checked(takes=stored)
def cifar100(*, coarse: bool = False, **dealt: Unpack[Dealt]) -> Federation:
    """Objects and animals, 50,000 training and 10,000 test images of 32 x 32 colour pixels in 100 classes.

    Looked for as ``cifar100/**/*.parquet``; a copy made of JPEG images is lossy, which the federation's note says.

    Args:
        coarse: Whether the 20 superclasses are the classes.
        **dealt: How it is dealt and where it is looked for: what ``data.known.stored`` takes.
    """
    return stored("cifar100", KNOWN["cifar100"], "coarse_label" if coarse else "fine_label", **dealt)


def cure(name: str, repository: str) -> str:
    """How to get a data set that was not found."""
    return (
        f"To get it: {FETCH}put the parquet files of https://huggingface.co/datasets/{repository} into a folder "
        f"{name}/ in one of these, or in another that you name by --data-dir (data_dir=) or FEDSEP_DATA. "
        "fedsep.data.digits needs no download."
    )
