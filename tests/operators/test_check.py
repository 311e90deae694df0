"""``check_operator`` passes what the package has and catches what does not keep the laws."""

import functools
from dataclasses import dataclass, replace

import pytest
import torch

from fedsep import operators, random
from fedsep.operators import Composed, coordinates, dct, gaussian, sparse_signs
from fedsep.testing import LawBroken, check_operator


@pytest.mark.parametrize(
    "make", [gaussian, functools.partial(gaussian, orthonormal=False), operators.block_srht, dct, operators.srht,
             functools.partial(sparse_signs, nonzeros=2), coordinates]
)  # fmt: skip
def test_operators_pass(make):
    check_operator(make)


@dataclass(frozen=True)
class Wrong:
    """Cosines, but for one thing."""

    inner: object
    norm: float = 1.0
    orthonormal: bool = True
    scale: float = 1.0
    shape: tuple = (6, 45)
    double: bool = False

    def mv(self, v):
        return self.inner.mv(v)

    def rmv(self, x):
        return self.inner.rmv(x) * (2.0 if self.double else 1.0)

    def solve(self, x):
        return x


def wrong(**changed):
    return lambda p, d, key: replace(Wrong(dct(p, d, key)), **changed)


def half_solved(p, d, key):
    return Wrong(gaussian(p, d, key, orthonormal=False), norm=100.0, orthonormal=False, scale=d / p)


def first_coordinates(p, d, key):
    """Sees nothing beyond the first half."""
    return Composed(coordinates(p, d // 2, key), operators.Coordinates(d, torch.arange(d // 2)))


@pytest.mark.parametrize(("make", "law"), [
    (wrong(shape=(6, 44)), r"shape is \(p, d\)"),
    (wrong(double=True), "transpose of mv"),
    (lambda p, d, key: dct(p, d, random.key(9)), "other keys make other operators"),
    (wrong(norm=0.9), "norm bounds"),
    (lambda p, d, key: Wrong(sparse_signs(p, d, key, nonzeros=2), norm=9.0), "orthonormal rows"),
    (half_solved, r"solve\(x\) = x"),
    (first_coordinates, "E S\\^T S"),
    (wrong(scale=2.0), "E S\\^T S"),
])  # fmt: skip
def test_what_breaks_a_law_is_caught(make, law):
    with pytest.raises(LawBroken, match=law):
        check_operator(make)


def test_an_operator_that_changes_from_call_to_call_is_caught():
    calls = iter(range(1000))
    with pytest.raises(LawBroken, match="equal keys"):
        check_operator(lambda p, d, key: dct(p, d, random.fold(key, next(calls))))
