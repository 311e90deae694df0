"""Trees survive a file bit for bit: values, types, structure, layout."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedsep import pack
from fedsep.core import FedSepError


class Pair(NamedTuple):
    first: object
    second: object = None


def same(a, b):
    """Equal in structure, types and bits."""
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert [s for s, n in zip(a.stride(), a.shape, strict=True) if n > 1] == [
            s for s, n in zip(b.stride(), b.shape, strict=True) if n > 1
        ] or not a.numel()
        assert torch.equal(a.contiguous().reshape(-1).view(torch.uint8), b.contiguous().reshape(-1).view(torch.uint8))
    elif isinstance(a, dict):
        assert list(a) == list(b)
        assert all(same(a[key], b[key]) for key in a)
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        assert all(same(x, y) for x, y in zip(a, b, strict=True))
    else:
        assert a == b or (math.isnan(a) and math.isnan(b))
    return True


DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool,
]  # fmt: skip
TENSORS = st.builds(
    lambda dtype, shape: (torch.arange(math.prod(shape)) * 37 - 11).reshape(shape).to(dtype),
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 3), max_size=3).map(tuple),
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5))
TREES = st.recursive(
    st.one_of(TENSORS, SCALARS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(st.text(max_size=3), st.integers()), inner, max_size=3),
        st.builds(Pair, inner, inner),
    ),
    max_leaves=8,
)


@given(tree=TREES)
def test_any_tree_survives(tree):
    same(pack.load(pack.dump(tree)), tree)


def test_special_values_keep_their_bits():
    bits = torch.tensor([0x7FF8000000000123, -0x8000000000000000, 0x7FF0000000000000, 1], dtype=torch.int64)
    same(pack.load(pack.dump(bits.view(torch.float64))), bits.view(torch.float64))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(24.0).reshape(2, 3, 2, 2).to(memory_format=torch.channels_last),
        torch.arange(6.0).reshape(2, 3).t(),
    ],
)
def test_layout_survives(tensor):
    assert pack.load(pack.dump({"a": tensor}))["a"].stride() == tensor.stride()


@pytest.mark.parametrize("tensor", [torch.arange(6.0)[::2], torch.ones(()).expand(3), torch.arange(9.0)[4:6]])
def test_views_are_saved_as_what_they_show(tensor):
    data = pack.dump([tensor])
    assert len(data) < 400
    assert torch.equal(pack.load(data)[0], tensor)


def test_a_tensor_that_is_met_twice_is_saved_once():
    tensor = torch.ones(1000)
    data = pack.dump({"a": tensor, "b": [tensor]})
    assert len(data) < 1.2 * 8000
    loaded = pack.load(data)
    assert loaded["a"] is loaded["b"][0] or torch.equal(loaded["a"], loaded["b"][0])
    overlapping = pack.load(pack.dump([tensor, tensor[:10], tensor.reshape(10, 100)]))
    assert [part.shape for part in overlapping] == [(1000,), (10,), (10, 100)]


def test_tensors_that_require_gradients_are_saved_without():
    assert not pack.load(pack.dump(torch.ones(2, requires_grad=True))).requires_grad


def test_what_is_read_is_aligned_as_torch_aligns_it():
    loaded = pack.load(pack.dump([torch.ones(3, dtype=torch.uint8), torch.ones(5), torch.ones(7)]))
    assert all(part.data_ptr() % 64 == 0 for part in loaded)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"a": [1, {2}]}, r"got set at \['a'\]\[1\]"),
        (object(), "got object at its root"),
        ({(1, 2): 3}, r"got the key \(1, 2\)"),
        ({True: 3}, "got the key True"),
    ],
)
def test_what_cannot_be_saved_is_named(tree, message):
    with pytest.raises(FedSepError, match=message):
        pack.dump(tree)


@pytest.mark.parametrize("data", [b"", b"nonsense", pack.dump(torch.ones(9))[:-1], pack.dump(torch.ones(9)) + b"x"])
def test_damage_is_noticed(data):
    with pytest.raises(pack.Damaged):
        pack.load(data)


def test_a_foreign_safetensors_file_is_damage():
    from safetensors.torch import save

    with pytest.raises(pack.Damaged):
        pack.load(save({"a": torch.ones(1)}))


def test_an_unknown_class_is_named_and_not_imported():
    data = pack.dump(Pair(torch.ones(1))).replace(b":Pair", b":Pear")
    with pytest.raises(FedSepError, match=r":Pear with the fields first, second, which this program does not define"):
        pack.load(data)


def test_a_class_whose_fields_have_changed_is_refused():
    data = pack.dump(Pair(torch.ones(1))).replace(b"second", b"zecond")
    with pytest.raises(FedSepError, match="zecond"):
        pack.load(data)
