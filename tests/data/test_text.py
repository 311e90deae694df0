from __future__ import annotations

import math
import platform

import numpy as np
import pytest
import torch

from fedsep import algorithms, engines, fit, models, tasks
from fedsep.core import FedSepError
from fedsep.data import iid, natural, text


@pytest.fixture
def books(tmp_path):
    """Three files in an order that is not that of their making, and one that is no text."""
    for number, name in enumerate(("b.txt", "a/z.txt", "a/c.txt")):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(bytes((number * 60 + place) % 256 for place in range(101)))
    (tmp_path / "picture.bin").write_bytes(b"\0" * 500)
    return tmp_path


def test_targets_are_the_next_bytes_and_files_come_in_the_order_of_their_paths(books):
    found = text(books, context=10, clients=3)
    assert found.shape == (10,)
    assert found.classes == 256
    assert found.train.x.dtype == torch.uint8
    assert ((found.train.y.int() - found.train.x.int()) % 256 == 1).all()
    assert found.train.x[:, 0].tolist() == [
        (start + place) % 256 for start in (120, 60, 0) for place in range(0, 90, 10)]  # fmt: skip
    assert sorted(found.test.x[:, 0].tolist()) == [90, 150, 210]  # the last window of each
    assert [found.shard(client).train.x[0, 0] for client in range(3)] == [120, 60, 0]
    assert sum(found.shard(client).test.size for client in range(3)) == 3
    batch = found.train.take(torch.tensor([0]))
    assert batch.x[0].tolist() == list(range(120, 130))  # the numbers of symbols, as they are


def test_a_client_for_each_file(books):
    found = text(books, context=10, partition=natural("file"))
    assert found.clients == 3
    assert [int(found.shard(client).train.x.min()) for client in range(3)] == [120, 60, 0]


def test_windows_dealt_at_random_are_other_ones(books):
    found = text(books, context=10, clients=3, partition=iid())
    assert not np.array_equal(found.partition.train.flat, np.arange(27))


def test_the_limit_is_told(books):
    assert "the first 150 bytes, 2 of 3 files" in text(books, context=10, clients=2, limit=150).note
    assert text(books, context=10, clients=2).note == "303 bytes, 3 files"
    assert text(books / "b.txt", context=10, clients=2, limit=None).train.size == 9


def test_the_standard_library_is_always_there():
    found = text(context=32, limit=20_000, clients=4, validation=20)
    assert found.name == "python"
    assert f"the standard library of Python {platform.python_version()}, the first 20,000 bytes" in found.note
    assert found.partition.hash == text(context=32, limit=20_000, clients=4, validation=20).partition.hash
    assert found.validation is not None
    assert found.validation.size == 20


@pytest.mark.parametrize(
    ("path", "options", "said"),
    [
        ("nowhere", {}, "path must be a file or folder that exists"),
        (".", {"pattern": "*.md"}, r"there are no files \*.md in it; pattern says which are taken"),
        (".", {"pattern": ""}, "pattern must be one below the folder"),
        (".", {"pattern": "../*.txt"}, "pattern must be one below the folder"),
        (".", {"pattern": "**txt"}, "there are no files|pattern must be one below the folder"),
        ("b.txt", {"pattern": "*.md"}, r"pattern says which files of a folder, and .*b\.txt is a file"),
        (".", {"context": 101}, "0 windows of context 101 are too few"),
        (".", {"context": 60}, r"3 windows of context 60 are too few .* share 0.1"),
        (".", {"context": 10, "clients": 28}, "clients must be at most the 27 training samples"),
        (".", {"context": 10, "validation": 27}, r"validation must leave training samples \(got 27 of 27\)"),
        (".", {"context": 0}, "context"),
    ],
)
def test_refused(books, path, options, said):
    with pytest.raises(FedSepError, match=said):
        text(books / path, **options)


@pytest.mark.parametrize("method", ["fedavg", "fedsep_quantised"])
def test_something_is_learned_and_stacked_clients_learn_the_same(books, method, caplog):
    fleet = text(books, context=10, clients=3)
    task = tasks.language(models.transformer(fleet.shape, fleet.classes, width=16, depth=1, heads=2))
    tasks.check_fit(task, fleet.train)
    options = {"p": 1000, "server_lr": 4.0} if method == "fedsep_quantised" else {}
    algorithm = getattr(algorithms, method)(task, lr=1.0, steps=4, batch_size=4, **options)
    runs = [fit(algorithm, task, fleet, rounds=3, engine=engine) for engine in (engines.sequential(),
                                                                              engines.vectorised())]  # fmt: skip
    one, other = (run.metrics[-1]["test_bits_per_byte"] for run in runs)
    assert one < float(task.loss(task.init(), fleet.test.all())) / math.log(2) - 0.02
    assert other == pytest.approx(one, abs=1e-6)
    assert "one by one" not in caplog.text
