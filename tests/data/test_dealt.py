"""Parts that were met lately are kept, within bounds, and are the same as those that are made afresh."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedsep.data import dealt
from fedsep.data.dealt import Dealt
from fedsep.data.normalise import Constants

CLIENTS = 6


def dealt_of(index):
    """Six clients with four of 24 rows each, as a view or by an index that turns them round."""
    rows = torch.arange(24).flip(0) if index else None
    x = torch.arange(48.0).reshape(24, 2)
    return Dealt(x, torch.arange(24), np.arange(0, 25, 4), rows, Constants(None, None))


def expected(client, index):
    rows = np.arange(4 * client, 4 * client + 4)
    return (23 - rows if index else rows).tolist()


@pytest.mark.parametrize("index", [False, True])
def test_a_part_that_was_met_is_the_same(index):
    data = dealt_of(index)
    for client in [0, 3, 0, 5, 3]:
        part = data.part(client)
        assert part.y.tolist() == expected(client, index)
        assert torch.equal(part.x, data.x[part.y])
        assert data.part(client) is part


@pytest.mark.parametrize(
    ("index", "parts", "nbytes", "kept"), [(False, 2, 1, 2), (True, 4, 300, 3), (True, 4, 1, 1), (True, 2, 1 << 20, 2)]
)
def test_no_more_is_kept_than_allowed(index, parts, nbytes, kept, monkeypatch):
    """A part has 4 rows of 2 float64 and an int64: 96 bytes, which count where they are copies."""
    monkeypatch.setattr(dealt, "_KEPT_PARTS", parts)
    monkeypatch.setattr(dealt, "_KEPT_BYTES", nbytes)
    data = dealt_of(index)
    before = {client: data.part(client) for client in range(CLIENTS)}
    again = [client for client in range(CLIENTS) if data._met.get(client) is before[client]]
    assert again == list(range(CLIENTS - kept, CLIENTS))
    assert all(data.part(client).y.tolist() == expected(client, index) for client in range(CLIENTS))


def test_a_copy_on_a_device_keeps_its_own():
    data = dealt_of(True)
    part = data.part(1)
    moved = data.to(torch.device("cpu"))
    assert moved.part(1) is not part
    assert torch.equal(moved.part(1).x, part.x)
