"""kill -9 at any moment, then resume: parameters, metrics and ledger equal the uninterrupted run's bit for bit."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from train.toys import FedAvg, Lossy, Sparse, coin, contents, run

from fedsep.engines import sequential, workers
from fedsep.train import Checkpoint, Evaluate

VICTIM = Path(__file__).with_name("victim.py")


def uninterrupted(out, engine, states):
    """The run of ``victim.py``, left alone."""
    if engine == "lossy":
        return contents(run(Sparse(), out, states=states, engine=Lossy(coin), checkpoint=Checkpoint(every=2)).folder)
    made = workers(processes=2) if engine == "workers" else sequential()
    clients = Evaluate(every=2, clients=True, last=3)
    return contents(run(FedAvg(pause=0.004), out, states=states, engine=made, evaluate=clients).folder)


def killed_and_resumed(out, engine, states, how, numbers):
    command = [sys.executable, str(VICTIM), str(out), engine, states, how, *map(str, numbers)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    (folder,) = out.glob("run/seed0")
    return int(result.stdout), contents(folder), folder


@pytest.mark.parametrize("engine", ["sequential", "workers"])
def test_at_random_times(tmp_path, engine):
    draw = random.Random(4)
    times = [draw.randrange(20, 250) for _ in range(6)]
    killed, found, _ = killed_and_resumed(tmp_path / "killed", engine, "memory", "time", times)
    assert killed >= 1
    assert found == uninterrupted(tmp_path / "whole", engine, "memory")


@pytest.mark.parametrize("states", ["memory", "disk"])
def test_in_any_call_that_changes_a_file(tmp_path, states):
    """In steps, so that together they fall into all kinds of places."""
    numbers = [*range(0, 60, 9), *range(3, 120, 17)]
    killed, found, folder = killed_and_resumed(tmp_path / "killed", "lossy", states, "call", numbers)
    assert killed >= 10
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
