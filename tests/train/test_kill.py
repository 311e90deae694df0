"""kill -9 at any moment, then resume: parameters, metrics and ledger equal the uninterrupted run's bit for bit."""

from __future__ import annotations

import random

import pytest
from train.toys import contents
from train.victim import go, killed


def uninterrupted(out, engine, states):
    return contents(go(out, engine, states).folder)


def killed_and_resumed(out, engine, states, how, numbers):
    """How many runs were killed, what the one after them leaves, and where."""
    times = killed(how, numbers, out, engine, states)
    folder = go(out, engine, states).folder
    return times, contents(folder), folder


@pytest.mark.parametrize("engine", ["sequential", "workers"])
def test_at_random_times(tmp_path, engine):
    draw = random.Random(4)
    times = [draw.randrange(20, 250) for _ in range(6)]
    count, found, _ = killed_and_resumed(tmp_path / "killed", engine, "memory", "time", times)
    assert count >= 1
    assert found == uninterrupted(tmp_path / "whole", engine, "memory")


@pytest.mark.parametrize("states", ["memory", "disk"])
def test_in_any_call_that_changes_a_file(tmp_path, states):
    """In steps, so that together they fall into all kinds of places."""
    numbers = [*range(0, 60, 9), *range(3, 120, 17)]
    count, found, folder = killed_and_resumed(tmp_path / "killed", "lossy", states, "call", numbers)
    assert count >= 10
    assert found == uninterrupted(tmp_path / "whole", "lossy", states)
    assert not [path for path in folder.rglob("*") if path.name.startswith(".tmp")]


@pytest.mark.slow
@pytest.mark.parametrize("states", ["memory", "disk"])
def test_in_every_call_that_changes_a_file(tmp_path, states):
    wanted = uninterrupted(tmp_path / "whole", "lossy", states)
    for number in range(0, 200, 20):
        out = tmp_path / str(number)
        _, found, _ = killed_and_resumed(out, "lossy", states, "call", range(number, number + 20))
        assert found == wanted
