from __future__ import annotations

import numpy as np
import pytest

from fedsep import data

pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def real(mnist, tmp_path_factory):
    """MNIST from a cache of this module's own: decoded once."""
    root = tmp_path_factory.mktemp("decoded")

    def load(monkeypatch, **arguments):
        monkeypatch.setenv("XDG_CACHE_HOME", str(root))
        return data.mnist(data_dir=mnist, **arguments)

    return load


def test_mnist_is_what_it_is_known_to_be(real, monkeypatch):
    federation = real(monkeypatch, clients=10)
    assert (federation.train.size, federation.test.size, federation.shape) == (60_000, 10_000, (1, 28, 28))
    train = federation.train
    assert float(train.shift) / 255 == pytest.approx(0.1307, abs=1e-4)
    assert 1 / float(train.scale) / 255 == pytest.approx(0.3081, abs=1e-4)
    assert np.bincount(federation.test.y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert federation.note == ""


@pytest.mark.parametrize(("clients", "k", "validation"), [(10, 2, 0), (10, 2, 5000), (1000, 2, 0), (100, 5, 0)])
def test_mnist_classes_are_unequal_and_clients_equal(clients, k, validation, real, monkeypatch):
    federation = real(monkeypatch, clients=clients, partition=data.classes(k), validation=validation)
    counts = federation.partition.counts
    assert counts.sum() == 60_000 - validation
    assert np.ptp(counts.sum(axis=1)) <= 1
    assert ((counts > 0).sum(axis=1) == k).all()
    even = federation.train.size / clients / k
    assert counts[counts > 0].min() > 0.5 * even
    for client in range(0, clients, max(clients // 10, 1)):
        shard = federation.shard(client)
        assert set(shard.test.y.tolist()) == set(shard.train.y.tolist()) == set(np.flatnonzero(counts[client]))


def test_a_share_of_cifar10(cifar10, tmp_path):
    """The first images of the copy beside the checkout, so as not to decode all of them."""
    for file in sorted((cifar10 / "cifar10").rglob("*.parquet")):
        part = pq.ParquetFile(file).read_row_group(0).slice(0, 300)
        (tmp_path / "cifar10").mkdir(exist_ok=True)
        pq.write_table(part, tmp_path / "cifar10" / file.name)
    federation = data.cifar10(data_dir=tmp_path, clients=5)
    assert (federation.train.size, federation.test.size, federation.shape) == (300, 300, (3, 32, 32))
    assert federation.labels[:2] == ("airplane", "automobile")
    jpeg = part.column(0)[0].as_py()["bytes"][:2] == b"\xff\xd8"
    assert ("lossy" in federation.note) == jpeg
