"""What ``check`` tells of the peak of memory is what a run takes."""

from __future__ import annotations

import os
import sys

import pytest
import torch

from fedsep.cli import check, invoke
from fedsep.cli import rehearse as module
from fedsep.cli.bench_apart import Watched, watch
from fedsep.cli.check import peaks_told
from fedsep.cli.rehearse import Peak, rehearse
from fedsep.cli.rehearse_one import Growth
from fedsep.core import FedSepError
from fedsep.memo import KEPT_BYTES
from fedsep.recipes import Sources, read
from fedsep.store import InMemory

RECIPE = """
rounds: {rounds}
data: {{use: fedsep.data.text, context: 16, limit: 20000, clients: 4}}
model: {{use: fedsep.models.transformer, width: 512, depth: 4, heads: 8}}
task: {{use: fedsep.tasks.language}}
method: {{use: fedsep.algorithms.fedavg, lr: 0.1, steps: 1, batch_size: 4}}
engine: {{use: fedsep.engines.{engine}}}
"""

linux = pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="only Linux tells")


@linux
@pytest.mark.slow
@pytest.mark.parametrize("engine", ["sequential", "vectorised"])
def test_the_peak_of_a_run_in_which_the_model_takes_most_is_told_within_15_percent(tmp_path, engine):
    (tmp_path / "large.yaml").write_text(RECIPE.format(rounds=6, engine=engine))
    told = rehearse(read(tmp_path / "large.yaml"), "fedavg", Sources())
    seen = watch([sys.executable, "-m", "fedsep", "run", str(tmp_path / "large.yaml"), "--out", str(tmp_path / "out")])
    assert seen.code == 0, seen.said
    assert told is not None
    assert told.rounds == 3
    assert told.first == told.together
    assert told.together == pytest.approx(seen.apart[0], rel=0.15)
    model = 4 * (12 * 4 * 512**2)
    assert seen.apart[0] > 5 * model + 150e6, "else the interpreter is most of it"


def test_memories_of_clients_that_were_not_played_are_added():
    shared, growth, stores = torch.zeros(1000), Growth(), InMemory()
    for client in range(4):
        stores.put(client, 0, {"anchor": shared, "own": torch.zeros(10, dtype=torch.float32)}, -1)
    growth.look()
    assert (growth.versions, growth.clients, growth.each) == (4, 4, 40)
    # Each of 100 clients takes part in every one of 5 rounds: two versions of each, and two copies in a checkpoint.
    assert growth.memories(100, 1.0, 5) == 40 * (200 - 4 + 2 * 96)
    assert growth.memories(4, 1.0, 1) == 0
    assert growth.memories(100, 0.01, 1) == 0  # one client took part, and four were played


def test_what_is_remembered_grows_to_a_limit():
    growth = Growth(memos=(100, KEPT_BYTES // 2, 2 * KEPT_BYTES))
    assert growth.remembered(1.0) == 0
    assert growth.remembered(3.0) == 200 + KEPT_BYTES // 2


@pytest.mark.parametrize(
    ("code", "said", "message"),
    [(-9, "", "a round takes more memory than there is"), (3, "out of luck", "ended with exit code 3: out of luck")],
)
def test_a_rehearsal_that_ends_badly_is_told(tmp_path, monkeypatch, code, said, message):
    (tmp_path / "large.yaml").write_text(RECIPE.format(rounds=1, engine="sequential"))
    monkeypatch.setattr(module, "watch", lambda words: Watched(1, (1,), code, said))
    with pytest.raises(FedSepError, match=f"methods.fedavg: .*{message}"):
        rehearse(read(tmp_path / "large.yaml"), "fedavg", Sources())


def test_the_total_of_all_processes_is_told():
    table = peaks_told({"fedavg": Peak(300_000_000, (200_000_000, 210_000_000), 450_000_000, 3, 4)})
    assert not isinstance(table, str)
    assert [next(iter(column.cells)) for column in table.columns] == ["fedavg", "300 MB", "2 x 210 MB", "450 MB"]
    assert "Linux does" in str(peaks_told({"fedavg": None}))


@pytest.mark.parametrize(("engine", "said"), [("torchrun", True), ("sequential", False)])
def test_of_engines_with_ranks_or_nodes_one_process_is_told_and_it_says_so(monkeypatch, capsys, engine, said):
    monkeypatch.setattr(check, "rehearse", lambda *_: Peak(1 << 20, (), 1 << 20, 3, 4))
    assert invoke(["check", "quickstart", "--memory", "--engine", engine]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert ("fedsep.engines.torchrun has several" in out) == said
