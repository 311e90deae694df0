"""Error feedback: nothing is lost, also when replies are; old coordinates are forgotten when they mean nothing."""

import pytest
import torch
from catalogue import network
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsep import algorithms, tree, wires
from fedsep.core import FedSepError
from fedsep.testing.draws import context, random_like
from fedsep.wires.error_feedback import ErrorFeedback

LIKE = {"w": torch.zeros(6, 5), "b": torch.zeros(6)}
INNER = {
    "topk": wires.topk(5),
    "stc": wires.topk(5, index="golomb", values=wires.sign()),
    "sign": wires.sign(per="tensor"),
    "lloyd_max": wires.lloyd_max(bits=2, scale_bits=8),
    "less than a bit": wires.random_k(fraction=0.4, values=wires.lloyd_max()),
    "bfloat16": wires.dense(dtype="bfloat16"),
}


@pytest.mark.parametrize("name", INNER)
@given(accepted=st.lists(st.booleans(), max_size=12))
@settings(max_examples=15)
def test_what_was_read_and_the_memory_are_what_was_sent(name, accepted):
    wire = wires.error_feedback(INNER[name])
    memory, sent, read = wire.init(LIKE), LIKE, LIKE
    for number, arrives in enumerate(accepted):
        ctx, message = context(number), random_like(LIKE, number)
        payload, proposed = wire.pack(message, memory, ctx)
        if arrives:  # otherwise the memory stays as it was, and so does the server
            memory = proposed
            sent, read = tree.add(sent, message), tree.add(read, wire.unpack(payload, LIKE, ctx))
    torch.testing.assert_close(tree.add(read, memory.error), sent, rtol=0, atol=1e-12)


def test_all_coordinates_leave_no_memory_and_arrive_bit_for_bit():
    wire, message = wires.error_feedback(wires.topk(36)), random_like(LIKE, 0)
    payload, memory = wire.pack(message, wire.init(message), context(0))
    read = wire.unpack(payload, message, context(0))
    assert all(torch.equal(read[name], part) for name, part in message.items())
    assert all(not part.any() for part in memory.error.values())


def test_a_coordinate_that_is_left_out_arrives_in_the_end():
    wire = wires.error_feedback(wires.topk(1))
    memory, sums = wire.init(torch.zeros(3)), torch.zeros(3)
    for number in range(60):
        payload, memory = wire.pack(torch.tensor([3.0, 2.0, 1.0]), memory, context(number))
        sums = sums + wire.unpack(payload, sums, context(number))
    torch.testing.assert_close(sums / 60, torch.tensor([3.0, 2.0, 1.0]), rtol=0, atol=0.1)


def test_a_sketch_that_is_re_drawn_tells_a_user_s_error_feedback_when_to_forget():
    for make in (algorithms.fedsep_linear, algorithms.fedsep_quantised):
        method = make(network, p=6, period=3, uplink=wires.error_feedback(wires.topk(2)))
        assert isinstance(method.uplink, ErrorFeedback)
        assert method.uplink.renewed is not None
        assert [method.uplink.renewed(context(now, seen=2)) for now in (2, 3)] == [False, True]
        own = wires.error_feedback(wires.topk(2), renewed=lambda ctx: True)
        assert make(network, p=6, uplink=own).uplink is own


def test_the_memory_is_forgotten_where_coordinates_mean_something_new():
    wire = wires.error_feedback(wires.topk(5), renewed=lambda ctx: ctx.round // 3 != ctx.seen // 3)
    message = random_like(LIKE, 0)
    _, memory = wire.pack(message, wire.init(message), context(4, seen=3))
    assert any(part.any() for part in memory.error.values())
    fresh, _ = wire.pack(message, wire.init(message), context(6, seen=4))
    after, _ = wire.pack(message, memory, context(6, seen=4))
    same_period, _ = wire.pack(message, memory, context(5, seen=4))
    assert torch.equal(after["index"], fresh["index"])
    assert torch.equal(after["values"], fresh["values"])
    assert not torch.equal(same_period["values"], fresh["values"])


def test_the_memory_of_the_wire_inside_is_kept_and_renewed_too():
    inner = wires.error_feedback(wires.topk(5))
    wire = wires.error_feedback(inner, renewed=lambda ctx: ctx.round == 7)
    message = random_like(LIKE, 0)
    _, memory = wire.pack(message, wire.init(message), context(0))
    assert any(part.any() for part in memory.inner.error.values())
    _, renewed = wire.pack(tree.zeros_like(LIKE), memory, context(7))
    assert all(not part.any() for part in renewed.inner.error.values())


def test_it_goes_around_sparse_wires_and_not_inside():
    for outer in (
        wires.topk(5, values=wires.error_feedback(wires.sign())),
        wires.random_k(5, values=wires.error_feedback(wires.sign())),
        wires.rotated(wires.error_feedback(wires.sign())),
    ):
        with pytest.raises(FedSepError, match=r"ErrorFeedback\(\w+\(\.\.\.\)\)"):
            outer.init(LIKE)


def test_each_tensor_and_each_part_can_have_a_memory_of_its_own():
    inside = wires.error_feedback(wires.topk(fraction=0.2))
    for wire, outside in (
        (wires.per_tensor(inside), wires.error_feedback(wires.topk(fraction=0.2, per="tensor"))),
        (wires.by_name(w=inside, b=inside), wires.error_feedback(wires.by_name(rest=wires.topk(fraction=0.2)))),
    ):
        memories = [wire.init(LIKE), outside.init(LIKE)]
        for number in range(4):
            message, ctx = random_like(LIKE, number), context(number)
            reads = []
            for place, each in enumerate((wire, outside)):
                payload, memories[place] = each.pack(message, memories[place], ctx)
                reads.append(each.unpack(payload, LIKE, ctx))
            assert all(torch.equal(reads[0][name], reads[1][name]) for name in LIKE)
