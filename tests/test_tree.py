"""Trees: arithmetic by name, vectors and back, and bytes that cannot be cheated."""

from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedsep import random, tree


class Pair(NamedTuple):
    a: torch.Tensor
    b: dict


def example(seed: int = 0):
    key = random.key(seed)
    return {
        "w": random.normal(random.fold(key, 0), 2, 3),
        "p": Pair(random.normal(random.fold(key, 1), 4), {"s": torch.tensor(2.0)}),
    }


def test_add_sub_scale_and_zeros():
    a, b = example(0), example(1)
    total = tree.add(a, b, 0.5)
    assert isinstance(total["p"], Pair)
    torch.testing.assert_close(total["w"], a["w"] + 0.5 * b["w"])
    torch.testing.assert_close(tree.sub(total, tree.scale(b, 0.5))["p"].a, a["p"].a)
    torch.testing.assert_close(tree.scale(a, torch.tensor(3.0))["w"], 3 * a["w"])
    assert not tree.ravel(tree.zeros_like(a))[0].any()


def test_arithmetic_goes_by_name():
    a = {"x": torch.tensor([1.0, 2.0]), "y": torch.tensor([3.0, 4.0])}
    b = {"y": torch.tensor([30.0, 40.0]), "x": torch.tensor([10.0, 20.0])}
    assert tree.add(a, b)["x"].tolist() == [11, 22]
    assert tree.sub(b, a)["y"].tolist() == [27, 36]
    assert float(tree.dot(a, b)) == 10 + 40 + 90 + 160


@pytest.mark.parametrize("other", [{"x": torch.ones(2)}, {"x": torch.ones(2), "z": torch.ones(2)}, torch.ones(2)])
def test_arithmetic_refuses_trees_of_another_structure(other):
    with pytest.raises(ValueError, match="Node"):
        tree.add({"x": torch.ones(2), "y": torch.ones(2)}, other)


def test_dot_and_norm_are_those_of_the_vectors():
    a, b = example(0), example(1)
    u, v = tree.ravel(a)[0], tree.ravel(b)[0]
    torch.testing.assert_close(tree.dot(a, b), u @ v)
    torch.testing.assert_close(tree.norm(a), u.norm())


@given(st.lists(st.lists(st.integers(0, 3), max_size=3), min_size=1, max_size=4))
def test_ravel_goes_there_and_back(shapes):
    given_ = {str(n): random.normal(random.fold(random.key(3), n), *shape) for n, shape in enumerate(shapes)}
    vector, unravel = tree.ravel(given_)
    back = unravel(vector)
    assert back.keys() == given_.keys()
    assert all(torch.equal(back[name], part) for name, part in given_.items())
    assert vector.numel() == sum(part.numel() for part in given_.values())


def test_flatten_and_unflatten():
    leaves, structure = tree.flatten(example())
    assert [leaf.shape for leaf in leaves] == [(2, 3), (4,), ()]
    assert isinstance(tree.unflatten(leaves, structure)["p"], Pair)


def test_nbytes_counts_every_tensor_by_its_type():
    payload = {"half": torch.zeros(3, dtype=torch.float16), "list": [torch.zeros(5, dtype=torch.uint8), torch.zeros(2)]}
    assert tree.nbytes(payload) == 6 + 5 + 16
    assert tree.nbytes({}) == 0


@pytest.mark.parametrize("stowaway", [3, 2.5, "text", None, b"bytes"])
def test_nbytes_refuses_what_would_cross_uncounted(stowaway):
    with pytest.raises(TypeError, match="tensors and nothing else"):
        tree.nbytes({"x": torch.zeros(2), "stowaway": stowaway})


def test_named_bytes():
    assert tree.named_bytes({"0.weight": torch.zeros(4), "0.bias": torch.zeros(2)}) == {"model": 48}
    assert tree.named_bytes({"omegas": torch.zeros(2, 3), "report": {"a": torch.zeros(1)}}) == {
        "omegas": 48,
        "report": 8,
    }
    assert tree.named_bytes(torch.zeros(3)) == {"model": 24}


def test_stack_and_unstack():
    several = [example(seed) for seed in range(3)]
    stacked = tree.stack(several)
    assert stacked["w"].shape == (3, 2, 3)
    for before, after in zip(several, tree.unstack(stacked), strict=True):
        assert torch.equal(tree.ravel(before)[0], tree.ravel(after)[0])
