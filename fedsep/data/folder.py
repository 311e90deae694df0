"""Images in one folder per class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fedsep.core import FedSepError
from fedsep.data.cache import cached
from fedsep.data.federation import Dealing, Federation, federate
from fedsep.data.images import Size, decode
from fedsep.data.parquet import Share
from fedsep.data.rules import Rule, iid
from fedsep.data.search import locate
from fedsep.data.source import Source, targets
from fedsep.ranges import Count, NonNegativeInt, checked

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_TRAIN = ("train", "training")
_TEST = ("test", "testing", "val", "valid", "validation")


@checked
def folder(
    path: str | Path,
    *,
    size: Count | None = None,
    clients: Count | None = None,
    partition: Rule = iid(),
    validation: NonNegativeInt = 0,
    public: NonNegativeInt | Federation | None = None,
    test: Share = 0.2,
    seed: int = 0,
    data_dir: str | Path | None = None,
) -> Federation:
    """Images sorted into one folder per class: ``path/cat/1.png``, or ``path/train/cat/1.png`` beside ``path/test``.

    Args:
        path: The folder; a relative path is also looked for in the data folders.
        size: Height and width that images are resized to; needed if they differ.
        clients: Number of clients; None: as the partition says, else 10.
        partition: Rule by which training samples are dealt.
        validation: Number of training samples held out before the others are dealt.
        public: Number of training samples that become public, unlabelled, before the others are dealt; or another data
            set, whose images become public; None: none.
        test: Share held out for testing, by class, where there is no test folder.
        seed: Of everything random here.
        data_dir: First of the folders that are searched.

    Raises:
        FedSepError: No images, unreadable ones, or numbers that do not fit the data.
    """
    root = locate(path, data_dir)
    if not root.is_dir():
        raise FedSepError(f"path must be a folder with one folder per class (got the file {root})")
    train_root, test_root = _child(root, _TRAIN) or root, _child(root, _TEST)
    train, test_files = _files(train_root), [] if test_root is None else _files(test_root)
    if not train:
        raise FedSepError(f"{train_root}: there are no images in folders inside it ({', '.join(_SUFFIXES[:4])}, ...)")

    def read() -> Source:
        return _read(root.name, (train_root, train), (test_root or root, test_files), size)

    source = cached(root.name, [*train, *test_files], ["folder", len(train), size], read)
    return federate(source, Dealing(clients, partition, validation, seed, test, public))


def _child(root: Path, names: tuple[str, ...]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _files(root: Path) -> list[Path]:
    found = [f for f in root.rglob("*") if f.suffix.lower() in _SUFFIXES and len(f.relative_to(root).parts) > 1]
    return sorted(f for f in found if not any(part.startswith(".") for part in f.relative_to(root).parts))


def _read(name: str, train: tuple[Path, list[Path]], test: tuple[Path, list[Path]], size: Size | None) -> Source:
    x = decode(train[1], size, name)
    y = _classes(*train)
    x_test, y_test = None, None
    if test[1]:
        x_test, y_test = decode(test[1], x.shape[2:], f"{name}'s test folder", grey=x.shape[1] == 1), _classes(*test)
        new = sorted(set(y_test.tolist()) - set(y.tolist()))
        if new:
            raise FedSepError(f"{test[0]}: class {new[0]!r} has no folder in {train[0]}")
    found = targets(y, y_test, name)
    return Source(name, x, found.y, found.classes, x_test, found.y_test, found.labels)


def _classes(root: Path, files: list[Path]) -> np.ndarray[tuple[int], np.dtype[np.str_]]:
    return np.array([file.relative_to(root).parts[0] for file in files])
