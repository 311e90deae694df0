from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsep import random
from fedsep.core import FedSepError
from fedsep.data import arrays, classes, digits, dirichlet, iid, natural, sizes
from fedsep.data.deal import by_class_set, held_out, stratified


def images(count=300, labels=5, channels=1, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, channels, 4, 4), dtype=np.uint8), rng.integers(0, labels, count)


@given(
    st.lists(st.integers(0, 3), max_size=40),
    st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=8),
    st.integers(0, 99),
)
def test_evaluation_samples_follow_the_class_set(labels, holds, seed):
    labels, holds = np.array(labels, np.int64), np.array(holds)
    parts = by_class_set(random.key(seed), labels, holds)
    for client, part in enumerate(parts):
        present = {label for label in np.flatnonzero(holds[client]).tolist() if (labels == label).any()}
        assert set(labels[part].tolist()) == present
        assert len(set(part.tolist())) == len(part)
    for label in range(4):
        count, holders = int((labels == label).sum()), int(holds[:, label].sum())
        sizes_of = [int((labels[parts[client]] == label).sum()) for client in np.flatnonzero(holds[:, label])]
        given_out = np.concatenate([np.zeros(0, int), *parts])
        given_out = given_out[labels[given_out] == label]
        if count and holders:
            assert max(sizes_of) - min(sizes_of) <= 1
            assert len(set(given_out.tolist())) == count if count >= holders else max(sizes_of) == 1
        if count >= holders:
            assert len(given_out) == len(set(given_out.tolist()))


@given(st.lists(st.integers(0, 3), min_size=10, max_size=60), st.floats(0.1, 0.6), st.integers(0, 99))
def test_the_held_out_share_is_stratified(labels, share, seed):
    labels = np.array(labels, np.int64)
    stay, out = stratified(random.key(seed), labels, share)
    assert sorted([*stay, *out]) == list(range(len(labels)))
    for label in np.unique(labels):
        size = (labels == label).sum()
        assert (labels[stay] == label).any()
        assert abs((labels[out] == label).sum() - share * size) <= 1.5


def test_held_out_positions_are_uniform_and_increasing():
    hits = np.zeros(20)
    for seed in range(400):
        stay, out = held_out(random.key(seed), 20, 5)
        assert (np.diff(stay) > 0).all()
        assert len(stay) == 15
        hits[out] += 1
    assert abs(hits - 100).max() < 45


@settings(max_examples=20)
@given(st.integers(0, 50), st.sampled_from([None, 2, 3]), st.integers(0, 3))
def test_shards_hold_the_samples_that_the_partition_names(validation, k, seed):
    x, y = images()
    x_test, y_test = images(100, seed=1)
    rule = dirichlet(1.0) if k is None else classes(k)
    federation = arrays(
        x, y, x_test=x_test, y_test=y_test, clients=5, partition=rule, validation=validation, seed=seed, normalise=False
    )
    partition = federation.partition
    everything = np.concatenate([partition.train.flat, np.unique(partition.validation.flat)])
    assert len(set(everything.tolist())) == len(everything)
    assert len(partition.train.flat) == 300 - validation
    for client in range(5):
        shard = federation.shard(client)
        assert (shard.train.x.numpy() == x[partition.train[client]]).all()
        assert (shard.train.y.numpy() == y[partition.train[client]]).all()
        assert (shard.test.x.numpy() == x_test[partition.test[client]]).all()
        assert set(shard.test.y.tolist()) == set(shard.train.y.tolist())
        assert (shard.validation is None) == (validation == 0)
        if shard.validation is not None:
            assert (shard.validation.x.numpy() == x[partition.validation[client]]).all()
            assert set(shard.validation.y.tolist()) <= set(shard.train.y.tolist())
    assert federation.test.size == 100
    assert sorted(federation.test.y.tolist()) == sorted(y_test.tolist())


def test_a_training_shard_is_a_view_and_images_stay_bytes():
    federation = arrays(*images(), clients=5)
    train = federation.train
    for client in range(5):
        shard = federation.shard(client)
        assert shard.train.x.dtype == torch.uint8
        assert shard.train.x.untyped_storage().data_ptr() == train.x.untyped_storage().data_ptr()
        assert shard.test.x.untyped_storage().data_ptr() == federation.test.x.untyped_storage().data_ptr()


def test_where_clients_outnumber_test_samples_they_share_them():
    x, y = images(200)[0], np.arange(200) % 2
    federation = arrays(x, y, x_test=x[:6], y_test=np.array([0, 0, 0, 1, 1, 1]), clients=40, partition=classes(1))
    for client in range(40):
        shard = federation.shard(client)
        assert shard.test.y.tolist() == [shard.train.y[0].item()]
    assert federation.test.size == 6


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_normalised_by_training_samples_alone(channels):
    x, y = images(300, channels=channels)
    federation = arrays(x, y, clients=3, validation=40)
    taken = federation.train.all().x
    assert taken.mean(dim=(0, 2, 3)) == pytest.approx(torch.zeros(channels), abs=1e-12)
    assert taken.std(dim=(0, 2, 3), correction=0) == pytest.approx(torch.ones(channels), abs=1e-12)
    assert federation.validation.all().x.mean().abs() > 1e-6


@pytest.mark.parametrize("channels", [1, 3])
def test_normalised_images_have_the_default_float_type_of_the_moment(channels):
    federation = arrays(*images(channels=channels), clients=3)
    for dtype in (torch.float32, torch.float64):
        torch.set_default_dtype(dtype)
        assert federation.shard(0).train.take(slice(0, 2)).x.dtype == dtype
        assert federation.test.all().x.dtype == dtype


def test_unnormalised_images_are_divided_by_255():
    x, y = images()
    federation = arrays(x, y, clients=3, normalise=False)
    assert federation.train.all().x.max() == pytest.approx(1.0)
    assert (federation.shard(0).train.all().x.numpy() * 255).round() == pytest.approx(x[federation.partition.train[0]])


def test_tables_are_standardised_by_training_samples_alone():
    rng = np.random.default_rng(0)
    x = rng.normal(5e6, 3.0, (200, 4))
    x[:, 3] = 7.0
    federation = arrays(x, rng.integers(0, 2, 200), clients=4)
    taken = federation.train.all().x
    assert taken.mean(dim=0) == pytest.approx(torch.zeros(4), abs=1e-6)
    assert taken[:, :3].std(dim=0, correction=0) == pytest.approx(torch.ones(3))
    assert (taken[:, 3] == 0).all()
    assert federation.test.x.mean(dim=0).abs().max() > 1e-3


def test_a_regression_has_floating_targets_and_deals_its_test_part_evenly():
    rng = np.random.default_rng(0)
    federation = arrays(rng.normal(size=(100, 3)), rng.normal(size=100), clients=4, validation=8)
    assert federation.classes == 1
    assert federation.train.y.dtype == torch.get_default_dtype()
    assert [federation.shard(i).test.size for i in range(4)] == [5] * 4
    assert [federation.shard(i).validation.size for i in range(4)] == [2] * 4
    several = arrays(rng.normal(size=(100, 3)), rng.normal(size=(100, 2)), clients=4)
    assert several.classes == 2
    assert several.train.y.shape == (80, 2)


def test_natural_makes_one_client_per_group_and_sizes_one_per_size():
    x, y = images(60)
    writers = np.array(["ann", "bob", "cy"])[np.arange(60) % 3]
    federation = arrays(x, y, groups={"writer": writers}, partition=natural("writer"))
    assert federation.clients == 3
    assert [set(writers[part]) for part in federation.partition.train] == [{"ann"}, {"bob"}, {"cy"}]
    assert arrays(x, y, partition=sizes([3, 4])).clients == 2
    assert arrays(x, y).clients == 10


def test_samples_that_nobody_gets_are_not_training_samples():
    federation = arrays(*images(), partition=sizes([3, 4]))
    assert federation.train.size == 7
    assert federation.partition.counts.sum() == 7


def test_the_seed_decides_everything():
    first, again, other = (digits(seed=seed, validation=100) for seed in (1, 1, 2))
    assert first.partition.hash == again.partition.hash != other.partition.hash
    assert torch.equal(first.test.x, again.test.x)
    assert torch.equal(first.shard(3).train.x, again.shard(3).train.x)
    assert not torch.equal(first.test.x, other.test.x)


@pytest.fixture
def elsewhere():
    """A default device on which nothing can be read back: whoever deals there fails."""
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        ("images", iid()),
        ("bytes", classes(2)),
        ("table", classes(2, mode="heterofl")),
        ("images", classes(2, mode="pathological")),
        ("bytes", dirichlet(1.0)),
        ("table", sizes([9] * 4)),
    ],
)
def test_data_are_dealt_in_main_memory_whatever_the_default_device(kind, rule, elsewhere):
    x, y = images(labels=4)
    x = x.astype(np.float64) if kind == "table" else x
    made = arrays(x, y, clients=4, partition=rule, validation=20, normalise=kind != "bytes")
    torch.set_default_device(None)
    wanted = arrays(x, y, clients=4, partition=rule, validation=20, normalise=kind != "bytes")
    assert made.partition.hash == wanted.partition.hash
    for one, other in zip(made.shard(3), wanted.shard(3), strict=True):
        assert torch.equal(one.all().x, other.all().x)


def test_digits_are_the_embedded_default():
    federation = digits(partition=classes(2), validation=200)
    assert federation.shape == (1, 8, 8)
    assert (federation.classes, federation.clients) == (10, 10)
    assert federation.validation.size == 200
    assert federation.train.size + federation.test.size == 1597
    assert federation.describe() == (
        "digits: 1,238 training, 200 validation, 359 test samples of 1 x 8 x 8, 10 classes; "
        "10 clients x 123-124 samples, 2 of 10 classes each"
    )


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    theirs = load_digits()
    federation = digits(clients=1)
    part = federation.partition.train[0]
    assert (federation.train.x.numpy()[:, 0] == theirs.images[part]).all()
    assert (federation.train.y.numpy() == theirs.target[part]).all()


def test_moving_to_a_device_keeps_the_data():
    federation = digits(clients=3, validation=30)
    moved = federation.to("cpu")
    assert torch.equal(moved.shard(1).test.all().x, federation.shard(1).test.all().x)
    assert moved.partition is federation.partition


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"clients": 2000}, "clients must be at most the 1,438 training samples (got 2,000)"),
        ({"clients": 1400, "validation": 100}, "training samples, after 100 were held out for validation (got 1,400)"),
        ({"clients": 0}, "clients must be >= 1 (got 0)"),
        ({"validation": -1, "clients": 0}, "clients must be >= 1 (got 0); validation must be >= 0 (got -1)"),
        ({"validation": 1438}, "validation must leave training samples (got 1,438 of 1,438)"),
        ({"test": 1.0}, "test must be > 0 and < 1 (got 1.0)"),
        ({"partition": sizes([3, 4]), "clients": 3}, "clients must be 2, as the partition says, or be left out"),
        ({"partition": natural("writer")}, "natural: digits has no column 'writer' to group by (it has none)"),
        ({"partition": classes(3), "clients": 7}, "k does not divide"),
    ],
)
def test_mistakes_are_named(arguments, words):
    with pytest.raises(FedSepError) as error:
        digits(**{name: arguments[name] for name in sorted(arguments)})
    assert words in str(error.value)
