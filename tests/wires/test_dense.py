"""The dense wire: exact in float32, within its rounding in half types, and the same the second time."""

import pytest
import torch
from catalogue import network
from hypothesis import given
from hypothesis import strategies as st

from fedsep import tree, wires
from fedsep.core import Ctx
from fedsep.testing import LawBroken, check_wire
from fedsep.testing.draws import context, random_like
from fedsep.wires import Dense

CTX = context(1, seen=0)
ROUNDING = {"float16": 2.0**-11, "bfloat16": 2.0**-8}


def message(seed: int = 0, scale: float = 1.0):
    return {"model": random_like(network.init(), seed, scale), "step": torch.tensor(3)}


def test_floats_go_as_they_are():
    check_wire(Dense(), message())
    sent = message()
    assert Dense().pack(sent, (), CTX)[0] is sent


def test_float32_is_exact_for_a_float32_model():
    torch.set_default_dtype(torch.float32)
    check_wire(wires.dense(), tree.map(lambda part: part.float() if part.is_floating_point() else part, message()))


def test_float32_rounds_a_float64_model():
    check_wire(wires.dense(), message(), error=2.0**-24)
    with pytest.raises(LawBroken, match="bit for bit"):
        check_wire(wires.dense(), message(), error=0.0)


@pytest.mark.parametrize("dtype", ROUNDING)
def test_half_types_keep_their_rounding_bound(dtype):
    check_wire(wires.dense(dtype=dtype), message(), error=ROUNDING[dtype])
    with pytest.raises(LawBroken, match="declared error"):
        check_wire(wires.dense(dtype=dtype), message(), error=ROUNDING[dtype] / 8)


@pytest.mark.parametrize("dtype", ROUNDING)
@given(value=st.floats(1e-3, 6e4), sign=st.sampled_from([-1, 1]))
def test_each_number_is_within_the_rounding_bound(dtype, value, sign):
    sent = {"x": torch.tensor([sign * value])}
    wire = wires.dense(dtype=dtype)
    read = wire.unpack(wire.pack(sent, (), CTX)[0], sent, CTX)
    assert abs(float(read["x"] - sent["x"])) <= ROUNDING[dtype] * value
    assert tree.nbytes(wire.pack(sent, (), CTX)[0]) == 2


def test_without_a_model_to_go_by_floats_are_read_in_the_default_type():
    wire = wires.dense(dtype="bfloat16")
    read = wire.unpack(wire.pack(message(), (), CTX)[0], None, CTX)
    assert read["model"]["0.bias"].dtype == torch.get_default_dtype()
    assert read["step"].dtype == torch.int64


def test_what_is_named_exact_is_not_rounded():
    wire = Dense(torch.bfloat16, exact=("anchor",))
    sent = {"anchor": message()["model"], "omega": torch.tensor([0.1])}
    read = wire.unpack(wire.pack(sent, (), Ctx(0, 1.0, torch.tensor(0)))[0], None, CTX)
    assert all(torch.equal(read["anchor"][name], part) for name, part in sent["anchor"].items())
    assert read["omega"] == torch.tensor([0.1]).bfloat16().double()
