"""Whatever comes back for a reply: it is folded if it is what the method sends, and else it is a failure."""

from __future__ import annotations

import copy

import pytest
import torch
from catalogue import CATALOGUE, rehearsed
from hypothesis import given, settings
from hypothesis import strategies as st
from train.toys import FedAvg, run

from fedsep import tree, wires
from fedsep.core import Expected, Failure, FedSepError, Invitation, Reply
from fedsep.looking import finite
from fedsep.replies import Gate, Refused, received, require_form
from fedsep.testing.draws import context
from fedsep.train import Accept, Cohort, RunFailed

NAMES = ("fedavg", "fedavg in float16", "scaffold", "stc", "topk_ef of each tensor in packed positions", "signsgd_ef",
         "powersgd", "qsgd", "fetchsgd", "eden both ways", "fedsep_quantised", "fedsep_lasso")  # fmt: skip
ROWS = {row.name: row for row in CATALOGUE if row.name in NAMES}


def gate(name, **changes):
    """What lets the replies of one round of a method through, and a reply that it lets through."""
    algorithm, played = rehearsed(ROWS[name])
    seat = played.seats[1][0]
    made = Gate(algorithm, played.states[1], [Invitation(0, seat.ctx)], **changes)
    return made, Reply(0, seat.ctx, copy.deepcopy(seat.reply), 7, {"model": 8})


def endless():
    loop = {}
    loop["again"] = [loop]
    return loop


def deep():
    nested = torch.zeros(2)
    for _ in range(5000):
        nested = [nested]
    return nested


HUGE = 1 << 45


def huge():
    return torch.zeros((), dtype=torch.uint8).expand(HUGE)


def square():
    return torch.zeros(()).expand(1 << 20, 1 << 20)


def meta():
    return torch.empty(3, device="meta")


def sparse():
    return torch.zeros(3, 3).to_sparse()


tensors = st.builds(
    lambda dtype, shape, fill: torch.full(shape, fill).to(dtype),
    st.sampled_from(
        [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8, torch.int32, torch.bool]
    ),
    st.lists(st.integers(0, 5), max_size=3),
    st.sampled_from([0.0, 1.0, -3.0, 1e30, float("nan"), float("inf")]),
)
strange = st.one_of(
    st.none(), st.text(max_size=3), st.integers(), st.floats(), st.binary(max_size=4),
    st.sampled_from([endless, deep, object, huge, square, meta, sparse]).map(lambda make: make()),
)  # fmt: skip
trees = st.recursive(
    st.one_of(tensors, strange),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["index", "values", "omega", "model", "w", 3]), inner, max_size=3),
    ),
    max_leaves=6,
)


@st.composite
def spoiled(draw, payload):
    """A payload with one leaf replaced, or with other numbers in it, or something else altogether."""
    leaves, structure = tree.flatten(payload)
    how = draw(st.sampled_from(["whole", "leaf", "numbers", "length"]))
    if how == "whole" or not leaves:
        return draw(trees)
    place = draw(st.integers(0, len(leaves) - 1))
    leaf = leaves[place]
    if how == "leaf":
        leaves[place] = draw(trees)
    elif how == "length":
        flat = leaf.reshape(-1)
        leaves[place] = torch.cat([flat, flat])[: draw(st.integers(0, 2 * flat.numel()))]
    elif leaf.is_floating_point():
        leaves[place] = torch.full_like(leaf, draw(st.floats(width=16)))
    else:
        low, high = (0, 255) if leaf.dtype == torch.uint8 else (-(2**31), 2**31 - 1)
        numbers = draw(st.lists(st.integers(low, high), min_size=leaf.numel(), max_size=leaf.numel()))
        leaves[place] = torch.tensor(numbers, dtype=leaf.dtype).reshape(leaf.shape)
    return tree.unflatten(leaves, structure)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_nothing_that_comes_back_ends_the_run_or_spoils_it(name, data):
    made, good = gate(name)
    passed = made.passed(good._replace(payload=data.draw(spoiled(good.payload))))
    if isinstance(passed, Failure):
        assert passed.stage == "reply"
        assert passed.reason
        longest = made._forms[good.ctx.capability].longest or tree.nbytes(good.payload)
        assert sum(passed.received.values()) <= longest
    else:
        assert finite(passed.change.value)
        state, _ = made.algorithm.aggregate(made.state, [passed])
        assert finite(made.algorithm.model(state))


@pytest.mark.parametrize("name", NAMES)
def test_every_form_that_is_not_the_methods_is_refused_with_where_it_is_wrong(name):
    made, good = gate(name)
    leaves, structure = tree.flatten(good.payload)
    other = torch.int16 if leaves[0].dtype != torch.int16 else torch.int8
    for wrong, says in (
        (leaves[0].unsqueeze(0), "has the shape"),
        (leaves[0].to(other), "is of torch.int"),
        ("text", "is a str, not a tensor"),
        (None, "is a NoneType, not a tensor"),
        (torch.empty_like(leaves[0], device="meta"), "no plain tensor"),
        (leaves[0].new_zeros(()).expand(HUGE), "bytes, more than the" if name == "stc" else "has the shape"),
    ):
        payload = tree.unflatten([wrong, *leaves[1:]], structure)
        made._heard.clear()
        failure = made.passed(good._replace(payload=payload))
        assert isinstance(failure, Failure)
        assert says in failure.reason


def test_packed_strings_may_vary_where_the_wire_says_so_and_nowhere_else():
    for name, inside in (("stc", True), ("topk_ef of each tensor in packed positions", False)):
        assert wires.varies(rehearsed(ROWS[name])[0].uplink) is inside
    assert wires.varies(wires.by_name(a=wires.staged((wires.topk(2, index="golomb"),))))


def test_positions_out_of_range_are_refused():
    like, wire, ctx = CATALOGUE[0].task.init(), wires.topk(3), context(0)
    payload, _ = wire.pack(like, (), ctx)
    for places in ([-1, 2, 3], [1, 2, 1000], [2, 2, 3], [3, 2, 1]):
        with pytest.raises(FedSepError, match="increasing numbers below"):
            wire.unpack({**payload, "index": torch.tensor(places, dtype=torch.int32)}, like, ctx)


def test_a_bound_on_the_norm():
    made, good = gate("fedavg", accept=Accept(norm=1e-9))
    failure = made.passed(good)
    assert isinstance(failure, Failure)
    assert "more than accept.norm = 1e-09" in failure.reason
    made, good = gate("fedavg", accept=Accept(norm=100.0))
    assert made.passed(good).change is not None


def test_what_is_not_waited_for():
    made, good = gate("fedavg")
    assert made.passed(good._replace(client=5)).stage == "uninvited"
    assert made.passed(good._replace(ctx=good.ctx._replace(round=0))).stage == "stale"
    made, good = gate("fedavg")
    made.passed(good)
    again = made.passed(good)
    assert (again.stage, again.sent) == ("duplicate", {})
    assert again.received == {"model": tree.nbytes(good.payload)}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"samples": -1}, "number of examples is -1"), ({"samples": float("nan")}, "number of examples is nan"),
        ({"samples": None}, "number of examples is None"), ({"info": {"loss": "low"}}, "loss is a str, not a number"),
        ({"info": {3: 1.0}}, "cannot be read"),
        ({"info": {f"n{at}": 1.0 for at in range(257)}}, "tells 257 numbers beside its reply, more than 256"),
        ({"info": {"x" * 101: 1.0}}, "by the name 'xxx"), ({"info": {"a\nb": 1.0}}, "which is none"),
    ],
)  # fmt: skip
def test_what_a_client_says_of_itself(changes, says):
    made, good = gate("fedavg")
    assert says in made.passed(good._replace(**changes)).reason


def test_bytes_of_what_is_refused_are_those_a_server_would_read():
    made, good = gate("fedavg")
    made.passed(good)
    expected = made._forms[good.ctx.capability]
    most = tree.nbytes(good.payload)
    assert received([good.payload, "x"], expected) == {"refused": most}
    assert received({"a": torch.zeros(3, dtype=torch.uint8)}, expected) == {"refused": 3}
    assert received(endless(), expected) == {"refused": 0}
    assert received([torch.zeros(3), "x"], None) == {"refused": 24}


def test_a_method_that_says_nothing_is_checked_for_tensors_and_finite_numbers():
    class Strange(FedAvg):
        def update(self, payload, client, shard, ctx):
            return super().update(payload, client, shard, ctx)

    made = Gate(Strange(), None, [Invitation(0, rehearsed(ROWS["fedavg"])[1].seats[0][0].ctx)])
    ctx = made.cohort[0].ctx
    assert made.passed(Reply(0, ctx, {"w": torch.ones(3)})).change is None
    for payload in ({"w": 3.0}, endless(), {"w": torch.tensor(float("inf"))}):
        made._heard.clear()
        assert made.passed(Reply(0, ctx, payload)).stage == "reply"


def test_one_client_that_diverges_is_its_own_failure():
    class Diverging(FedAvg):
        def update(self, payload, client, shard, ctx):
            payload, client, info = super().update(payload, client, shard, ctx)
            return payload, client, {"loss": info["loss"] / (ctx.capability > 0.5)}

    result = run(Diverging(), cohort=Cohort(capabilities=(1.0, 0.5)))
    assert [row["failures"] for row in result.metrics] == [3] * 9
    with pytest.raises(RunFailed, match=r"round 1: the training loss of client 0 is inf.*lower lr"):
        run(Diverging(), cohort=Cohort(capabilities=(0.5,)))


def test_a_norm_needs_a_method_that_reads():
    with pytest.raises(FedSepError, match=r"accept\.norm needs a method with read"):
        run(FedAvg(), accept=Accept(norm=1.0))
    with pytest.raises(FedSepError, match=r"accept.norm must be > 0 \(got 0\)"):
        run(FedAvg(), accept=Accept(norm=0))


def test_vectors_of_lengths_that_clients_choose_are_bounded_together():
    pattern = Expected({"values": torch.zeros(4), "matrix": torch.zeros(2, 2)}, longest=100, vectors=True)
    require_form({"values": torch.zeros(7), "matrix": torch.zeros(2, 2)}, pattern)
    with pytest.raises(Refused, match=r"the payload.values has the shape \(7,\), not \(4,\)"):
        require_form({"values": torch.zeros(7), "matrix": torch.zeros(2, 2)}, pattern._replace(vectors=False))
    with pytest.raises(Refused, match=r"the payload.matrix has the shape \(3, 2\)"):
        require_form({"values": torch.zeros(4), "matrix": torch.zeros(3, 2)}, pattern)
    with pytest.raises(Refused, match="more than the 100 it can need"):
        require_form({"values": torch.zeros(9), "matrix": torch.zeros(2, 2)}, pattern)


@pytest.mark.parametrize("name", ["dgc with warm-up and nesterov", "feddst"])
def test_a_stale_reply_does_not_say_what_the_others_look_like(name):
    row = next(row for row in CATALOGUE if row.name == name)
    algorithm, played = rehearsed(row)
    for state, before, seats in zip(played.states[1:], played.seats, played.seats[1:], strict=False):
        made = Gate(algorithm, state, [Invitation(client, seat.ctx) for client, seat in seats.items()])
        client = next(iter(seats))
        stale = made.passed(Reply(client, before[client].ctx, before[client].reply))
        assert isinstance(stale, Failure)
        assert stale.stage == "stale"
        for each, seat in seats.items():
            assert isinstance(made.passed(Reply(each, seat.ctx, seat.reply)), Reply)
