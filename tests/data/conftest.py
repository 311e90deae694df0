"""Tests of the data package never touch the user's cache, nor depend on the user's environment."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    root = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(root))
    monkeypatch.delenv("FEDSEP_DATA", raising=False)
    return root / "fedsep"
