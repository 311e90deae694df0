"""Minibatches of several clients at once: what each of them would draw alone."""

import pytest
import torch

from fedsep import data, random
from fedsep.core import FedSepError, Samples
from fedsep.learners.batches import minibatches, minibatches_together


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


def test_different_numbers_of_examples_are_refused():
    samples = [Samples(torch.zeros(n, 2), torch.zeros(n)) for n in (3, 4)]
    with pytest.raises(FedSepError, match="different numbers of examples"):
        next(minibatches_together(samples, torch.zeros(2, dtype=torch.int64), 2, 1))
