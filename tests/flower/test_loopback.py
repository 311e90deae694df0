"""Two sites with five clients each over the loopback interface, with TLS and node authentication: takes minutes."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import safetensors.torch
import torch

from fedsep.flower.programs import free_port, listening

pytest.importorskip("flwr", reason="Flower is not installed: pip install 'fedsep[flower]'")

pytestmark = [pytest.mark.flower, pytest.mark.slow]

DIGITS = "{use: fedsep.data.digits, clients: 10, validation: 100}"
MNIST = "{use: fedsep.data.mnist, clients: 10, validation: 5000}"
RECIPE = """
rounds: %d
data: %s
model: {use: fedsep.models.mlp, hidden: [16]}
method: {use: fedsep.algorithms.topk_ef, k: 100, lr: 0.1, steps: 2, batch_size: 16}
evaluate: {every: 1}
checkpoint: {every: 2}
engine: {use: fedsep.engines.flower, timeout: %d, wait: %d}
"""
PATIENCE = 900.0  # seconds: a busy machine starts Flower's programs slowly


class Trial:
    """A server and its sites as processes of their own."""

    def __init__(
        self, folder: Path, stack: ExitStack, rounds: int, timeout: int = 120, wait: int = 600, data: str = DIGITS
    ):
        self.folder, self.stack, self.port = folder, stack, free_port()
        (folder / "recipe.yaml").write_text(RECIPE % (rounds, data, timeout, wait))
        done = self.fedsep("flower", "certs", "--out", "certs")
        assert done.wait(PATIENCE) == 0

    def fedsep(self, *arguments, log="certs.log"):
        with open(self.folder / log, "ab") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "fedsep", *arguments], cwd=self.folder, stdout=file, stderr=file, env=os.environ
            )
        self.stack.enter_context(ended(process))
        return process

    def server(self, *more):
        before = self.said("server.log").count("listening") if (self.folder / "server.log").exists() else 0
        process = self.fedsep(
            "flower", "server", "recipe.yaml", "--host", "127.0.0.1", "--port", str(self.port), "--out", "out", *more,
            log="server.log",
        )  # fmt: skip
        self.until(lambda: self.said("server.log").count("listening") > before, process)
        return process

    def client(self, name, clients, key=None, data="data", insecure=False):
        (self.folder / "data").mkdir(exist_ok=True)
        known = ["--insecure"] if insecure else ["--key", key or f"certs/nodes/{name}"]
        place = ["--data", str(data), "--server", f"127.0.0.1:{self.port}", *known]
        return self.fedsep("flower", "client", *place, "--clients", clients, "--name", name, log=f"{name}.log")

    def said(self, log):
        return (self.folder / log).read_text(errors="replace")

    def until(self, what, process=None):
        end = time.monotonic() + PATIENCE
        while not what():
            assert time.monotonic() < end
            assert process is None or process.poll() is None, self.said("server.log")
            time.sleep(0.5)

    def require_that_of_sequential(self, dtype):
        """That the final model is what the recipe gives in one process, bit for bit, in this precision; the model."""
        alone = self.fedsep("run", "recipe.yaml", "--engine", "sequential", "--out", "alone", log="alone.log")
        assert alone.wait(PATIENCE) == 0
        found, model = (
            (self.folder / out / "topk_ef/seed0/model.safetensors").read_bytes() for out in ("out", "alone")
        )
        assert found == model
        assert {part.dtype for part in safetensors.torch.load(model).values()} == {dtype}
        return model

    def rows(self, name):
        return [json.loads(line) for line in (self.folder / "out/topk_ef/seed0" / name).read_text().splitlines()]


@contextmanager
def ended(process):
    """Ends a process by its number, when all is over."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)


@pytest.fixture
def stack():
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def in_float64(tmp_path, monkeypatch):
    """Every Python that is started computes in double precision, Flower's own programs included."""
    (tmp_path / "before").mkdir()
    (tmp_path / "before/sitecustomize.py").write_text("import torch\n\ntorch.set_default_dtype(torch.float64)\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "before"), os.environ["PYTHONPATH"]]))


def test_five_rounds_are_those_of_sequential(tmp_path, stack, in_float64, mnist):
    trial = Trial(tmp_path, stack, 5, data=MNIST)
    server = trial.server()
    sites = [trial.client("site1", "0-4", data=mnist), trial.client("site2", "5-9", data=mnist)]
    assert server.wait(PATIENCE) == 0, trial.said("server.log")
    for site in sites:
        site.send_signal(signal.SIGTERM)
        assert site.wait(60) == 0
    trial.require_that_of_sequential(torch.float64)
    assert all(row["serialised"] > row["payload"] for row in trial.rows("ledger.jsonl"))
    received = [json.loads(line)["received"] for line in trial.said("sites/site1/audit.jsonl").splitlines()]
    assert received == ["hello", *["round"] * 5, "model"]


def test_a_node_that_is_killed_is_reported_and_the_run_goes_on(tmp_path, stack):
    trial = Trial(tmp_path, stack, 4, timeout=60, wait=120)
    server = trial.server()
    trial.client("site1", "0-4")
    doomed = trial.client("site2", "5-9")
    trial.until(lambda: "round 1/4" in trial.said("server.log"), server)
    doomed.kill()  # Flower's program goes with it
    assert server.wait(PATIENCE) == 0, trial.said("server.log")
    failed = [row for row in trial.rows("ledger.jsonl") if "failure" in row]
    assert {row["client"] for row in failed} == {5, 6, 7, 8, 9}
    assert {row["failure"]["stage"] for row in failed} <= {"timeout", "absent", "site"}
    assert trial.rows("metrics.jsonl")[-1]["replies"] == 5
    assert "site site2 does not have the final model" in trial.said("server.log")


def test_a_stranger_is_refused_and_a_server_that_is_killed_goes_on_to_the_result_of_sequential(tmp_path, stack):
    """Between two checkpoints: what sites remember beyond the last one, their error feedback, is left aside."""
    trial = Trial(tmp_path, stack, 5)
    server = trial.server()
    assert trial.fedsep("flower", "certs", "--out", "other", "--nodes", "1").wait(PATIENCE) == 0
    stranger = trial.client("stranger", "0-4", key="other/nodes/site1")
    assert stranger.wait(PATIENCE) == 2
    assert "does not take this site" in trial.said("stranger.log")
    trial.client("site1", "0-4")
    trial.client("site2", "5-9")
    trial.until(lambda: "round 3/5" in trial.said("server.log"), server)
    server.kill()  # Flower's programs and the run go with it
    server.wait(60)
    trial.until(lambda: not listening("127.0.0.1", trial.port))
    again = trial.server("--resume")
    assert again.wait(PATIENCE) == 0, trial.said("server.log")
    model = trial.require_that_of_sequential(torch.float32)
    received = [json.loads(line) for line in trial.said("sites/site1/audit.jsonl").splitlines()]
    rounds = [line["round"] for line in received if line["received"] == "round"]
    assert rounds[:3] == [1, 2, 3]
    assert rounds[-3:] == [3, 4, 5]  # the third again
    [kept] = tmp_path.glob("sites/site1/*/topk_ef.safetensors")
    assert kept.read_bytes() == model


def test_without_tls_where_it_is_asked_for_at_both_ends_and_in_float32(tmp_path, stack, mnist):
    trial = Trial(tmp_path, stack, 5, data=MNIST)
    server = trial.server("--insecure")
    trusting = trial.client("site1", "0-4")
    assert trusting.wait(PATIENCE) == 2
    assert "was the server started with --insecure?" in trial.said("site1.log")
    trial.client("site1", "0-4", data=mnist, insecure=True)
    trial.client("site2", "5-9", data=mnist, insecure=True)
    assert server.wait(PATIENCE) == 0, trial.said("server.log")
    trial.require_that_of_sequential(torch.float32)
    assert not any("failure" in row for row in trial.rows("ledger.jsonl"))


PAGE = Path(__file__).resolve().parents[2] / "docs/deployment.md"


def written(language):
    """The blocks of a language on the deployment page."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def commands(block):
    """The commands of a block, as lists of words."""
    return [shlex.split(line, comments=True) for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def test_the_commands_of_the_deployment_page_run_as_they_are_printed(tmp_path, stack):
    """But for the host's name, the port and the number of rounds; the sites are folders of one machine."""
    recipe, *sites = written("yaml")
    port, [table] = free_port(), written("csv")
    (tmp_path / "recipe.yaml").write_text(recipe.replace("rounds: 50", "rounds: 2"))
    for name, site in zip(("hospital_a", "hospital_b"), sites, strict=True):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data.yaml").write_text(site)
        (tmp_path / name / "patients.csv").write_text(table)

    def start(words, log):
        said = [word.replace("server.example.org:8443", f"127.0.0.1:{port}") for word in words]
        said = [word.replace("server.example.org", "127.0.0.1") for word in said]
        more = ["--port", str(port)] if "server" in words[:3] else []
        assert said[0] == "fedsep"
        with open(tmp_path / log, "wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", *said, *more], cwd=tmp_path, stdout=file, stderr=file, env=os.environ
            )
        stack.enter_context(ended(process))
        return process

    laptop, certs, look, trial = (commands(block) for block in written("sh"))
    assert start(laptop[0], "laptop.log").wait(PATIENCE) == 0
    assert start(certs[0], "certs.log").wait(PATIENCE) == 0
    assert start(look[0], "look.log").wait(PATIENCE) == 0
    assert "client 2: " in (tmp_path / "look.log").read_text()
    server = start(trial[0], "server.log")
    end = time.monotonic() + PATIENCE
    while "listening" not in (tmp_path / "server.log").read_text():
        assert server.poll() is None, (tmp_path / "server.log").read_text()
        assert time.monotonic() < end
        time.sleep(0.5)
    for number, words in enumerate(trial[1:]):
        start(words, f"client{number}.log")
    assert server.wait(PATIENCE) == 0, (tmp_path / "server.log").read_text()
    assert json.loads((tmp_path / "runs/trial/topk_ef/seed0/summary.json").read_text())["rounds"] == 2
    for name in ("hospital_a", "hospital_b"):
        assert list((tmp_path / "sites" / name).glob("*/topk_ef.safetensors"))
