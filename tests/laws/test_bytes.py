"""Law: measured bytes equal the closed form in the factory's docstring."""

import math

import pytest
import torch
from catalogue import CATALOGUE, Row, Tiny, changed, gaps, gaps_down, name, network, rehearsed, row, skewed

from fedsep import algorithms, tree
from fedsep.testing import documented_bytes, play
from fedsep.testing.algorithms import measured_bytes, rehearse
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


def at_size(task: Tiny) -> list[Row]:
    """Methods whose bytes depend on the run, or on p, on a model of another size, with sizes that follow it."""
    k, p = task.d // 9, task.d // 5
    tenths = sum(math.ceil(0.1 * part.numel()) for part in task.init().values())
    few, many = (
        {"p": p, "bits": 1, "bits_down": 1, "scale_bits": 8},
        {"p": p, "bits": 3, "bits_down": 2, "scale_bits": 32},
    )
    return [
        row("stc", task, k=k, sizes={"k": k, "k_down": k, "scale_bits": 32, "gaps": gaps(k, task),
            "gaps_down": gaps_down(k, task)}),
        row("fetchsgd", task, p=p // 3 * 3, rows=3, k=k, sizes={"p": p // 3 * 3, "changed": changed}),
        row("topk_ef", task, k=k, sizes={"k": k, "changed": changed}),
        row("dgc", task, fraction=0.1, warmup=(), sizes={"k": tenths, "changed": changed}),
        row("scaffold", task, clients=2),
        row("fedsep_linear", task, p=p, period=2, sizes={"p": p}),
        row("fedsep_quantised", task, p=p, period=2, sizes=few),
        row("fedsep_quantised in three bits", task, p=p, period=2, bits=3, bits_down=2, scale_bits=32, sizes=many),
        row("fedsep_lasso", task, p=p, beta=0.3, decode_steps=5, terms=3, server_lr=1.0, sizes={"p": p}),
        row("fedsep_implicit", task, optimality=skewed, decode_steps=1, decode_lr=0.9, terms=1, tau=0.9,
            sizes={"p": task.d}),
        row("fedsep_personal", task, decode_steps=1, terms=1, tau=0.08, decode_lr=0.08, strength=10.0),
    ]  # fmt: skip


@pytest.mark.parametrize("row", [row for hidden in (20, 63) for row in at_size(Tiny(hidden))],
                         ids=lambda row: f"{row.name}, d = {row.task.d}")  # fmt: skip
def test_measured_bytes_are_the_documented_ones_at_two_more_sizes(row: Row):
    played = rehearse(row.build(), row.task, row.shards(), rounds=3)
    measured_bytes(row.task, played, row.factory, row.sizes)


@pytest.mark.parametrize("factory", algorithms.__all__)
def test_every_factory_documents_bytes_memory_and_reference(factory):
    rows = (row for row in CATALOGUE if row.factory.__name__ == factory and not row.narrow)
    sizes = {"d": network.d, **{n: 1 if callable(size) else size for n, size in next(rows).sizes.items()}}
    assert SECTIONS == ("Bytes", "Memory", "Reference")
    assert documented_bytes(getattr(algorithms, factory), sizes).keys() == {"up", "down"}


@pytest.mark.parametrize("factory", algorithms.__all__)
def test_every_factory_has_a_row(factory):
    assert factory in {row.factory.__name__ for row in CATALOGUE}
