"""The probe of an anchor in pieces is that of the whole anchor."""

from __future__ import annotations

import pytest
import torch

from fedsep import digest, random


@pytest.mark.parametrize("piece", [1, 7, 64])
def test_a_large_anchor_is_summed_in_pieces(monkeypatch, piece):
    anchor = {"b": random.normal(random.key(1), 5, 9), "a": random.normal(random.key(2), 30)}
    whole = digest._probe(anchor)
    monkeypatch.setattr(digest, "_PIECE", piece)
    assert digest._probe(anchor) == pytest.approx(whole, rel=1e-5)
    assert digest._probe({"a": anchor["a"], "b": -anchor["b"]}) != pytest.approx(whole, rel=1e-2)


def test_the_probe_is_a_sum_with_signs_in_the_order_of_names():
    anchor = {"b": torch.arange(3.0), "a": torch.arange(3.0, 6.0)}
    flat = torch.cat([anchor["a"], anchor["b"]])
    signs = torch.tensor([1 - 2 * ((place * 0x9E3779B1 >> 17) & 1) for place in range(6)])
    assert digest._probe(anchor) == pytest.approx(float((flat * signs).sum()) / 6**0.5)
