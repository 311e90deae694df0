"""Law: encode is the transposed Jacobian of decode: <J u, v> = <u, encode(v)>, J by finite differences."""

import functools

import pytest
from catalogue import CONVERGED, Row, name, shard

from fedsep.testing import codecs
from fedsep.testing.codecs import Bench, bench

TOLERANCE = 1e-6


@functools.cache
def _bench(called: str) -> Bench:
    row = next(row for row in CONVERGED if row.name == called)
    algorithm = row.build(converged=True)
    return bench(algorithm.codec, row.task.init(), shard(row.task), view=algorithm.view)


def bench_of(row: Row) -> Bench:
    return _bench(row.name)


@pytest.mark.parametrize("row", CONVERGED, ids=name)
def test_encode_is_the_transpose_of_decode(row: Row):
    codecs.adjoint(bench_of(row), TOLERANCE, trials=2)


@pytest.mark.parametrize("row", CONVERGED, ids=name)
def test_encode_equals_the_finite_differences_of_decode(row: Row):
    codecs.columns(bench_of(row), TOLERANCE, limit=6)


@pytest.mark.parametrize("row", CONVERGED, ids=name)
def test_encode_is_linear_in_the_learned_change(row: Row):
    codecs.linear(bench_of(row), TOLERANCE)


@pytest.mark.parametrize("row", CONVERGED, ids=name)
def test_advance_leaves_the_model_as_it_is(row: Row):
    at = bench_of(row)
    codecs.shapes(at, row.task.init())
    codecs.clock(at)
