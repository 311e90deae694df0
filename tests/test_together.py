"""Minibatches of several clients at once: what each of them would draw alone."""

import pytest
import torch

from fedsep import data, random
from fedsep.core import FedSepError, Samples
from fedsep.learners.batches import lengths, minibatches, minibatches_together


def of_a_fleet(image):
    pixels = random.integers(random.key(0), 256, 32, 3, 4, 4).to(torch.uint8)
    x = pixels if image else random.normal(random.key(0), 32, 5)
    fleet = data.arrays(x.numpy(), (torch.arange(32) % 3).numpy(), clients=4, test=0.25)
    return [fleet.shard(client).train for client in range(4)]


def of_their_own():
    """Samples that are no slices of one set, with constants of their own."""
    made = []
    for client in range(4):
        x = random.normal(random.key(client), 6, 5)
        made.append(Samples(x, torch.arange(6), torch.tensor(float(client)), torch.tensor(2.0)))
    return made


FLEETS = {"images": lambda: of_a_fleet(True), "table": lambda: of_a_fleet(False), "their own": of_their_own}


@pytest.mark.parametrize("fleet", FLEETS)
@pytest.mark.parametrize(("batch_size", "count"), [(2, 7), (4, 3), (6, 2), (None, 2)])
def test_they_are_those_of_each_client(fleet, batch_size, count):
    samples = FLEETS[fleet]()
    keys = torch.stack([random.key(100 + client) for client in range(4)])
    every = [list(minibatches(own, key, batch_size, count)) for own, key in zip(samples, keys, strict=True)]
    together = list(minibatches_together(samples, keys, batch_size, count))
    assert len(together) == count
    for step, batch in enumerate(together):
        for client in range(4):
            assert torch.equal(batch.x[client], every[client][step].x)
            assert torch.equal(batch.y[client], every[client][step].y)


def test_rows_that_are_no_slice_are_taken_one_by_one():
    whole = Samples(torch.arange(24.0).reshape(12, 2), torch.arange(12))
    samples = [Samples(whole.x[::2], whole.y[::2]), Samples(whole.x[1::2], whole.y[1::2])]
    keys = torch.stack([random.key(0), random.key(1)])
    for batch in minibatches_together(samples, keys, 3, 2):
        assert torch.equal(batch.x[..., 0], 2.0 * batch.y)


@pytest.mark.parametrize(
    ("sizes", "batch_size", "count"), [((9, 4, 8, 9, 5), 4, 1), ((8, 11, 8), 4, 2), ((6, 6), 3, 5)]
)
def test_clients_with_other_numbers_of_examples_and_minibatches_of_one_size(sizes, batch_size, count):
    samples = [Samples(random.normal(random.key(n), n, 2), torch.arange(n)) for n in sizes]
    keys = torch.stack([random.key(100 + client) for client in range(len(sizes))])
    every = [list(minibatches(own, key, batch_size, count)) for own, key in zip(samples, keys, strict=True)]
    for step, batch in enumerate(minibatches_together(samples, keys, batch_size, count)):
        for client in range(len(sizes)):
            assert torch.equal(batch.x[client], every[client][step].x)
            assert torch.equal(batch.y[client], every[client][step].y)


@pytest.mark.parametrize(("size", "batch_size", "count", "found"), [
    (10, 4, 4, (4, 4, 2, 4)), (8, 4, 3, (4, 4, 4)), (3, 4, 2, (3, 3)), (5, None, 2, (5, 5)), (5, 2, 1, (2,)),
])  # fmt: skip
def test_sizes_of_minibatches(size, batch_size, count, found):
    samples = Samples(torch.zeros(size, 2), torch.zeros(size))
    assert lengths(size, batch_size, count) == found
    assert tuple(len(batch.y) for batch in minibatches(samples, random.key(0), batch_size, count)) == found


def test_minibatches_of_other_sizes_are_refused():
    samples = [Samples(torch.zeros(n, 2), torch.zeros(n)) for n in (3, 4)]
    with pytest.raises(FedSepError, match="minibatches of different sizes"):
        next(minibatches_together(samples, torch.zeros(2, dtype=torch.int64), 2, 2))
