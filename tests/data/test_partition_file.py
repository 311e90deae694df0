from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from fedsep.core import FedSepError
from fedsep.data import Partition, arrays, classes, digits


@pytest.fixture(scope="module")
def partition():
    return digits(partition=classes(2), validation=100).partition


def test_a_saved_partition_is_the_same(partition, tmp_path):
    partition.save(tmp_path / "partition.npz")
    found = Partition.load(tmp_path / "partition.npz")
    assert found.hash == partition.hash
    assert len(found.hash) == 64
    assert found.labels == partition.labels
    assert (found.counts == partition.counts).all()
    assert all((a == b).all() for a, b in zip(found.test, partition.test, strict=True))
    assert [file.name for file in tmp_path.iterdir()] == ["partition.npz"]


def test_the_file_holds_no_pickled_objects(partition, tmp_path):
    partition.save(tmp_path / "partition.npz")
    with np.load(tmp_path / "partition.npz", allow_pickle=False) as file:
        assert {"train", "train_offsets", "validation", "test", "counts", "labels", "hash"} <= set(file.files)
        assert file["train"].dtype == np.int64


def test_a_damaged_file_is_refused(partition, tmp_path):
    path = tmp_path / "partition.npz"
    with pytest.raises(FedSepError, match=r"partition\.npz: there is no such partition file"):
        Partition.load(path)
    partition.save(path)
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"not a zip file"):
        path.write_bytes(broken)
        with pytest.raises(FedSepError, match="not a readable partition file"):
            Partition.load(path)
    with np.load(_saved(partition, path)) as file:
        held = dict(file)
    held["train"] = held["train"][::-1]
    np.savez(path, **held)
    with pytest.raises(FedSepError, match="a damaged partition file"):
        Partition.load(path)


def _saved(partition, path):
    partition.save(path)
    return path


def test_an_unwritable_place_is_named(partition, tmp_path):
    with pytest.raises(FedSepError, match="the partition cannot be written"):
        partition.save(tmp_path / "nowhere" / "partition.npz")


@pytest.mark.parametrize(("clients", "labels"), [(1, 2), (10, 10), (70, 10), (300, 10), (80, 80)])
def test_the_picture_is_svg_that_takes_the_pages_colours(clients, labels):
    rng = np.random.default_rng(0)
    y = np.arange(3000) % labels
    found = arrays(rng.normal(size=(3000, 2)), y, clients=clients).partition
    text = found.picture()
    root = ElementTree.fromstring(text)
    assert root.tag.endswith("svg")
    assert "currentColor" in text
    assert found.describe().split(",")[0] in text
    assert ("the first 200 drawn" in text) == (clients > 200)
    assert len(text) < 80_000
    assert text == found.picture()


def test_the_picture_of_a_regression_shows_sizes():
    rng = np.random.default_rng(0)
    found = arrays(rng.normal(size=(50, 2)), rng.normal(size=50), clients=5).partition
    assert "samples" in found.picture()
    assert found.describe() == "5 clients x 8 samples"
