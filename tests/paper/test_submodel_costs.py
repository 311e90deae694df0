"""What a client's round takes in memory: the peak of the round, and not of what came before."""

import multiprocessing
import sys
from pathlib import Path

import pytest
import torch

linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux forgets a peak")


@linux
def test_an_earlier_peak_is_forgotten():
    from benchmarks.submodel_costs import forget_peak, status

    large = torch.ones(32 * 2**20)  # 128 MiB
    del large
    before = forget_peak()
    small = torch.ones(4 * 2**20)
    assert small.numel() * 4 / 2**20 * 0.9 < status("VmHWM") - before < 64


@linux
@pytest.mark.slow  # three processes of their own
def test_a_narrow_client_takes_far_less_memory_and_a_refresh_more():
    from benchmarks.submodel_costs import measure

    def measured(name, capability):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(measure, ((name, capability, 16, 2),))

    whole, narrow, held = (
        measured(*each) for each in (("heterofl", 1.0), ("fedsep_mask", 0.0625), ("fedsep_shared, held", 0.0625))
    )
    assert 0 < narrow["peak_mib"] < 0.4 * whole["peak_mib"]
    assert narrow["peak_mib"] < 0.4 * narrow["refresh_peak_mib"]
    assert held["refresh_peak_mib"] < 0.5 * narrow["refresh_peak_mib"]
    assert held["refresh_seconds"] > held["seconds"]


def test_every_method_is_measured_at_every_capability_outside_a_refresh():
    from benchmarks.submodel_costs import LEVELS, METHODS, ONCE, jobs

    asked = {(name, level) for name, level, _, steps in jobs(64) if steps}
    assert {(name, level) for name in ("heterofl", "fedrolex", "fedsep_mask") for level in LEVELS} <= asked
    assert {name for name, _ in asked} == set(METHODS)
    assert set(ONCE) == {name.partition(",")[0] for name in METHODS if name.startswith("fedsep")}
    assert "resource" not in sys.modules["benchmarks.submodel_costs"].__dict__  # whose peak is never forgotten
