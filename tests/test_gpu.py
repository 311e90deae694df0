"""All that needs a GPU: sketches as on a CPU, engines that agree, mixed precision, rounds that do not wait.

Both ends make the same S on a CPU and on a GPU: bit for bit where it is made of whole numbers, else to rounding.
"""

from __future__ import annotations

import functools
import warnings
from contextlib import contextmanager

import pytest
import torch
from catalogue import CATALOGUE
from laws.test_vectorised import Fleet, near, rounds

from fedsep import algorithms, engines, models, operators, random, tree
from fedsep.core import Ctx, Failure, Invitation, Samples, Shard
from fedsep.models.units import units
from fedsep.round import Accepted, Memories, play
from fedsep.store import InMemory

DEVICE, P, D = "cuda", 24, 5000

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

WHOLE = {
    "coordinates": operators.coordinates,
    "sparse_signs": operators.sparse_signs,
    "sparse_signs nonzeros=3": functools.partial(operators.sparse_signs, nonzeros=3),
    "count_sketch": functools.partial(operators.count_sketch, rows=3),
    "srht": operators.srht,
    "block_srht": operators.block_srht,
    "block_srht block=64": functools.partial(operators.block_srht, block=64),
}
ROUNDED = {
    "dct": operators.dct,
    "gaussian": operators.gaussian,
    "gaussian as drawn": functools.partial(operators.gaussian, orthonormal=False),
    "regenerated": operators.regenerated,
}


def rows(make, device):
    """S, row by row: no sum has more than one part that is not 0, so that its order is no matter."""
    sketch = make(P, D, random.key(3).to(device))
    made = sketch.rmv(torch.eye(P, device=device))
    assert made.device.type == device
    return made.cpu()


@pytest.mark.parametrize("make", WHOLE.values(), ids=WHOLE.keys())
def test_whole_numbers_are_the_same_bits(make):
    assert torch.equal(rows(make, "cpu"), rows(make, DEVICE))


@pytest.mark.parametrize("make", ROUNDED.values(), ids=ROUNDED.keys())
def test_others_are_the_same_to_rounding(make):
    torch.testing.assert_close(rows(make, "cpu"), rows(make, DEVICE), rtol=0, atol=1e-9)


@pytest.mark.parametrize("make", [*WHOLE.values(), *ROUNDED.values()], ids=[*WHOLE, *ROUNDED])
def test_products_are_the_same_to_rounding(make):
    v = random.normal(random.key(4), D)
    there = make(P, D, random.key(3).to(DEVICE)).mv(v.to(DEVICE)).cpu()
    torch.testing.assert_close(make(P, D, random.key(3)).mv(v), there, rtol=1e-9, atol=1e-9)


# Engines


ROWS = [row for row in CATALOGUE if row.name in ("fedavg", "fedavg with every option", "scaffold", "fedsep_linear")]
IDS = [row.name for row in ROWS]


@pytest.fixture
def there():
    """What tests make inside lies on the GPU, as under ``--device cuda``."""
    torch.set_default_device(DEVICE)
    yield
    torch.set_default_device(None)


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_vectorised_plays_the_rounds_of_sequential(there, row):
    algorithm, fleet = row.build(), Fleet(row.task)
    one = rounds(engines.sequential(), algorithm, row.task, fleet)
    together = rounds(engines.vectorised(chunk=3), algorithm, row.task, fleet)
    for told in (one, together):
        assert {part.device.type for part in told[1].values()} == {DEVICE}
    near(one, together)


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_a_round_is_that_of_the_cpu_up_to_rounding(row):
    there_fleet = Fleet(row.task)
    expected = rounds(engines.sequential(), row.build(), row.task, there_fleet)[1]
    torch.set_default_device(DEVICE)
    try:
        found = rounds(engines.sequential(), row.build(), row.task, Fleet(row.task))[1]
    finally:
        torch.set_default_device(None)
    near(expected, {name: part.cpu() for name, part in found.items()})


class Movable(Fleet):
    """A fleet that an engine may put on a device."""

    def to(self, device):
        other = Movable.__new__(Movable)
        parts = [each.train for each in self.parts]
        other.clients, other.parts = self.clients, [Shard(Samples(p.x.to(device), p.y.to(device))) for p in parts]
        other.test = other.parts[0].train
        return other


def test_steps_on_the_gpu_while_the_server_stays_on_the_cpu():
    row = ROWS[0]
    algorithm, fleet = row.build(), Movable(row.task)
    expected = rounds(engines.sequential(), algorithm, row.task, fleet)
    near(expected, rounds(engines.vectorised(device=DEVICE), algorithm, row.task, fleet))


# Sub-models


@pytest.mark.parametrize("width", [8, 64])
def test_units_of_float32_networks_are_found(there, width):
    torch.set_default_dtype(torch.float32)
    net = models.resnet((3, 32, 32), 10, width=width).to(DEVICE)
    found = units(net, (3, 32, 32))
    assert found.sizes["stem"] == width


# Mixed precision


@pytest.mark.parametrize("engine", [engines.sequential(), engines.vectorised()], ids=["sequential", "vectorised"])
@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_bfloat16_changes_numbers_and_neither_types_nor_bytes(there, row, engine):
    torch.set_default_dtype(torch.float32)
    fleet = Fleet(row.task)
    plain = rounds(engine, row.build(), row.task, fleet)
    method = row.factory(row.task, **row.arguments(), precision="bfloat16")
    lowered = rounds(engine, method, row.task, fleet)
    for (_, size, payload, _, info), (_, own_size, own, _, own_info) in zip(plain[0], lowered[0], strict=True):
        assert own_size == size
        assert [part.dtype for part in tree.leaves(own)] == [part.dtype for part in tree.leaves(payload)]
        assert float(own_info["loss"]) != float(info["loss"])
        assert float(own_info["loss"]) == pytest.approx(float(info["loss"]), rel=0.05)
    assert {part.dtype for part in lowered[1].values()} == {torch.float32}


# Rounds that do not wait


@contextmanager
def waiting(how):
    """What torch does inside where the host waits for the GPU: ``error`` or ``warn``."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode(how)
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def cohort_of(clients, number, seen=-1):
    return [Invitation(c, Ctx(number, 1.0, random.key(100 * number + c), seen)) for c in range(clients)]


@pytest.mark.parametrize("precision", [None, "bfloat16"])
@pytest.mark.parametrize("engine", [engines.sequential(), engines.vectorised()], ids=["sequential", "vectorised"])
def test_between_the_invitations_and_the_look_at_the_replies_nothing_waits(there, engine, precision):
    torch.set_default_dtype(torch.float32)
    task = ROWS[0].task
    fleet = Fleet(task)
    algorithm = algorithms.fedavg(task, steps=3, batch_size=4, clip=1.0, momentum=0.5, precision=precision)
    session, state = engine.open(algorithm, task, fleet, lambda *_: None), algorithm.init(task.init())
    first, second = (cohort_of(fleet.clients, number) for number in range(2))
    list(session.round(state, first))  # libraries that load, workspaces
    with waiting("error"):
        outcomes = list(session.round(state, second))
        algorithm.aggregate(state, [each.reply for each in outcomes if not isinstance(each, Failure)])
    assert not any(isinstance(each, Failure) for each in outcomes), outcomes
    session.close()


@pytest.mark.parametrize("engine", [engines.sequential(), engines.vectorised()], ids=["sequential", "vectorised"])
def test_a_round_waits_as_often_for_many_clients_as_for_few(there, engine):
    task, found = ROWS[0].task, []
    for clients in (3, 12):
        fleet = Fleet(task)
        fleet.parts, fleet.clients = [fleet.parts[0]] * clients, clients
        algorithm = algorithms.fedavg(task, steps=3, batch_size=4)
        session, state = engine.open(algorithm, task, fleet, lambda *_: None), algorithm.init(task.init())
        never = torch.full((clients,), -1, device="cpu")
        cohorts = [cohort_of(clients, number) for number in range(2)]
        for number, cohort in enumerate(cohorts):
            with warnings.catch_warnings(record=True) as said, waiting("warn" if number else "default"):
                warnings.simplefilter("always")
                memories = Memories(InMemory(), InMemory())
                play(algorithm, session, state, cohort, memories, Accepted(never, never), 1)
        found.append(sum("synchronizing" in str(each.message) for each in said))
        session.close()
    assert found[0] == found[1] > 0, found
