"""Law: measured bytes equal the closed form in the factory's docstring."""

import pytest
import torch
from catalogue import CATALOGUE, Row, name, network, rehearsed

from fedsep import algorithms, tree
from fedsep.testing import documented_bytes, play
from fedsep.testing.algorithms import measured_bytes
from fedsep.testing.documented import SECTIONS, sizes_of
from fedsep.testing.play import everybody

FULL = [row for row in CATALOGUE if not row.narrow]


@pytest.mark.parametrize("row", FULL, ids=name)
def test_measured_bytes_are_the_documented_ones(row: Row):
    measured_bytes(row.task, rehearsed(row)[1], row.factory, row.sizes)


@pytest.mark.parametrize("row", FULL, ids=name)
def test_in_float32_the_payloads_take_that_many_bytes(row: Row):
    torch.set_default_dtype(torch.float32)
    played = play(row.build(), row.task.init(), row.shards()[:2], everybody(2, 3), cross=lambda payload: payload,
                  capabilities=row.capabilities)  # fmt: skip
    for number, seats in enumerate(played.seats[1:], start=1):
        for client, seat in seats.items():
            sizes = {"d": tree.size(row.task.init()), **sizes_of(row.sizes, played, number, client)}
            wanted = documented_bytes(row.factory, sizes)
            assert {"up": tree.nbytes(seat.reply), "down": tree.nbytes(seat.sent)} == wanted


@pytest.mark.parametrize(("called", "up", "down"), [
    ("fedavg in float16", 2 * network.d, 8 * network.d),  # the downlink is as it was: float64 here
    ("fedavg in bfloat16", 2 * network.d, 2 * network.d),
    ("fedsep_linear in bfloat16", 2 * 6, 2 * 6),
])  # fmt: skip
def test_a_half_type_takes_two_bytes_a_number(called, up, down):
    row = next(row for row in CATALOGUE if row.name == called)
    for seat in (seat for seats in rehearsed(row)[1].seats[1:] for seat in seats.values()):
        assert (tree.nbytes(seat.reply), tree.nbytes(seat.sent)) == (up, down)


@pytest.mark.parametrize("factory", algorithms.__all__)
def test_every_factory_documents_bytes_memory_and_reference(factory):
    rows = (row for row in CATALOGUE if row.factory.__name__ == factory and not row.narrow)
    sizes = {"d": network.d, **{n: 1 if callable(size) else size for n, size in next(rows).sizes.items()}}
    assert SECTIONS == ("Bytes", "Memory", "Reference")
    assert documented_bytes(getattr(algorithms, factory), sizes).keys() == {"up", "down"}


@pytest.mark.parametrize("factory", algorithms.__all__)
def test_every_factory_has_a_row(factory):
    assert factory in {row.factory.__name__ for row in CATALOGUE}
