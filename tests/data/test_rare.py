"""Classes that live on the last clients only, and capabilities in the order of clients."""

import numpy as np
import pytest
import torch

from fedsep import data
from fedsep.core import FedSepError
from fedsep.train import Cohort


@pytest.mark.parametrize("seed", [0, 1, 2, 100])
def test_rare_classes_live_on_the_last_clients_and_nothing_else_changes(seed):
    rule = data.classes(2, rare=(6, 7, 8, 9), among=0.6)
    counts = data.digits(clients=20, partition=rule, seed=seed).partition.counts
    assert not counts[:8, 6:].any()

    assert (counts > 0).sum(1).tolist() == [2] * 20
    assert (counts > 0).sum(0).tolist() == [4] * 10
    sizes = counts.sum(1)
    assert sizes.max() - sizes.min() <= 1
    assert counts.sum() == data.digits(clients=20, seed=seed).train.size
    weak = Cohort(capabilities=(1.0, 0.5, 0.25, 0.125, 0.0625), draw="ordered").capability(seed, 7, list(range(20)), 20)
    assert weak == [each for each in (1.0, 0.5, 0.25, 0.125, 0.0625) for _ in range(4)]
    holders = np.flatnonzero(counts[:, 6:].any(1))
    assert max(weak[i] for i in holders) == 0.25


def test_capabilities_in_order_do_not_depend_on_seed_round_or_company():
    cohort = Cohort(capabilities=(1.0, 0.5, 0.25), draw="ordered")
    assert cohort.capability(0, 0, list(range(7)), 7) == [1.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    assert cohort.capability(5, 9, [2, 6], 7) == [1.0, 0.25]
    seats = cohort.invitations(3, 1, [0, 6], torch.full((7,), -1), lambda client: None)
    assert [seat.ctx.capability for seat in seats] == [1.0, 0.25]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"rare": (9, 10)}, "rare must name different classes from 0 to 9"),
        ({"rare": (8, 8)}, "rare must name different classes"),
        ({"rare": (6, 7, 8, 9), "among": 0.3}, "among must leave the 4 rare classes enough clients"),
        ({"rare": (1, 2, 3, 4, 5, 6, 7, 8, 9)}, "among must leave the 9 rare classes"),
        ({"rare": (1,), "mode": "heterofl"}, "rare classes need mode balanced"),
    ],
)
def test_mistakes(given, told):
    with pytest.raises(FedSepError, match=told):
        data.digits(clients=20, partition=data.classes(2, **given))
