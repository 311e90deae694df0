"""Public data: held out before anything is dealt, without labels, and never what private or test data hold."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fedsep import data
from fedsep.core import FedSepError, Samples
from fedsep.data.overlap import overlap


def rows(x: torch.Tensor) -> set[bytes]:
    return {row.numpy().tobytes() for row in x}


def images(count: int, seed: int, side: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side), dtype=np.uint8)


def set_of(count: int = 60, seed: int = 0, **options) -> data.Federation:
    x, y = images(count, seed), np.arange(count) % 3
    return data.arrays(x, y, **{"clients": 3, **options})


def test_a_slice_is_held_out_before_the_others_are_dealt():
    whole = set_of(validation=5)
    split = set_of(validation=5, public=12)
    assert split.public is not None
    assert split.public.size == 12
    assert split.train.size == whole.train.size - 12
    parts = [rows(part) for part in (split.train.x, split.public.x, split.test.x, split.validation.x)]
    assert len(set().union(*parts)) == sum(map(len, parts)) == 60
    assert torch.equal(split.test.x, whole.test.x)
    assert torch.equal(split.validation.x, whole.validation.x)
    assert "12 public" in split.describe()
    assert whole.public is None


def test_which_ones_depends_on_the_seed_alone():
    first, again, other = (set_of(public=20, seed=seed, partition=rule) for seed, rule in (
        (3, data.iid()), (3, data.classes(2)), (4, data.iid())))  # fmt: skip
    assert torch.equal(first.public.x, again.public.x)
    assert not torch.equal(first.public.x, other.public.x)


def test_it_has_no_labels_and_the_private_normalisation():
    split = set_of(public=12)
    assert split.public.y.tolist() == [0] * 12
    assert torch.equal(split.public.shift, split.train.shift)
    assert torch.equal(split.public.scale, split.train.scale)
    kept = split.train.x.double()
    torch.testing.assert_close(split.train.shift.reshape(()), kept.mean(), rtol=1e-6, atol=1e-6)  # public left out
    table = data.arrays(np.random.default_rng(0).normal(5, 3, (50, 4)), np.arange(50) % 2, clients=2, public=10)
    assert table.public.x.shape == (10, 4)
    assert abs(float(table.public.x.mean())) < 1


def test_what_occurs_twice_does_not_become_public():
    x = images(40, 1)
    x[1], x[30] = x[0], x[2]
    once = data.arrays(x, np.arange(40) % 2, clients=2, x_test=x[5:9], y_test=np.arange(4) % 2, public=32)
    assert not rows(once.public.x[:, 0]) & rows(torch.from_numpy(x[[0, 2, 5, 6, 7, 8]]))
    with pytest.raises(
        FedSepError, match=r"public must leave training samples.*got 33, of 40 .*32 of which occur once"
    ):
        data.arrays(x, np.arange(40) % 2, clients=2, x_test=x[5:9], y_test=np.arange(4) % 2, public=33)


def test_another_data_set_gives_all_its_images():
    other = set_of(30, seed=9, validation=4)
    split = set_of(public=other)
    assert split.public.size == 30
    assert split.train.size == set_of().train.size
    assert torch.equal(split.public.shift, split.train.shift)
    assert rows(split.public.x) == rows(other.train.x) | rows(other.validation.x) | rows(other.test.x)


@pytest.mark.parametrize("part", ["train", "test", "a test set of its own"])
def test_another_data_set_that_shares_an_image_is_refused(part):
    own = {"x_test": images(8, 5), "y_test": np.arange(8) % 3} if part not in ("train", "test") else {}
    mine = set_of(**own)
    x = images(30, 9)
    x[7] = getattr(mine, "train" if part == "train" else "test").x[2, 0].numpy()
    with pytest.raises(FedSepError, match=r"nothing in common .*got others, with 1 of its 30 images among them"):
        set_of(public=data.arrays(x, np.arange(30) % 3, name="others", clients=2), **own)


def test_another_data_set_of_another_kind_is_refused():
    with pytest.raises(
        FedSepError, match=r"public must be images like those of arrays: .*shape \(1, 4, 4\).*\(1, 5, 5\)"
    ):
        set_of(public=data.arrays(images(9, 2, side=5), np.arange(9) % 3, clients=2))
    with pytest.raises(FedSepError, match="public must be images like those"):
        set_of(public=data.arrays(images(12, 2)[:, None] / 7, np.arange(12) % 3, clients=2))


def test_it_moves_to_a_device_with_the_others():
    split = set_of(public=12)
    moved = split.to("cpu")
    assert all(torch.equal(a, b) for a, b in zip(moved.public, split.public, strict=True))
    table = data.arrays(np.random.default_rng(0).normal(5, 3, (50, 4)), np.arange(50) % 2, clients=2, public=10)
    assert table.to("cpu").public.shift is None
    assert split.to("meta").public.x.device.type == "meta"
    assert set_of().to("cpu").public is None


def test_digits_have_a_slice_too():
    assert data.digits(clients=4, validation=100, public=300).public.size == 300
    with pytest.raises(FedSepError, match="public must be a whole number >= 0, or another data set"):
        data.digits(public=-1)


def test_inputs_that_are_equal_by_chance_are_no_evidence():
    draw = torch.Generator().manual_seed(0)
    table = torch.randint(0, 4, (3500, 6), generator=draw).double()
    few, rest = Samples(table[:500], torch.zeros(500)), Samples(table[500:], torch.zeros(3000))
    fleet = SimpleNamespace(clients=1, validation=None, test=None, shard=lambda client: (rest,))
    assert overlap(few, fleet) == []
    fine = Samples(torch.rand(500, 6, generator=draw).bfloat16(), torch.zeros(500))
    assert overlap(fine, fleet) == []
    fine.x[1] = fine.x[0]  # a pair that is equal does not make private examples public
    fleet.test = Samples(fine.x[4:5], fine.y[4:5])
    assert "with 1 of its 500 examples among them" in overlap(fine, fleet)[0]
