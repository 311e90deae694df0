"""Runs that were left alone, for those that were not to be compared with."""

from __future__ import annotations

import pytest
from train.toys import METHODS, contents, run


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> dict[tuple[str, str], dict[str, str]]:
    """What uninterrupted runs leave, by method and by where memories live."""
    out = tmp_path_factory.mktemp("whole")
    return {
        (name, states): contents(run(method, out / name / states, states=states, **changes).folder)
        for name, (method, changes) in METHODS.items()
        for states in ("memory", "disk")
    }
