"""Law: inputs stay as they were, bit for bit, and twice gives the same."""

import pytest
from catalogue import CATALOGUE, Row, name, shard

from fedsep.testing import algorithms, codecs


@pytest.mark.parametrize("row", CATALOGUE, ids=name)
def test_methods_are_pure(row: Row):
    algorithms.purity(row.build(), row.task, row.shards()[:2], capabilities=row.capabilities)


@pytest.mark.parametrize("row", CATALOGUE, ids=name)
def test_codecs_are_pure(row: Row):
    algorithm, params = row.build(), row.task.init()
    codecs.purity(codecs.bench(algorithm.codec, params, shard(row.base or row.task), view=algorithm.view), params)
