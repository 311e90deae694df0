"""A small recipe in an empty folder, and a command line that runs in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedsep.cli import invoke

RECIPE = """
rounds: 3
data: {use: fedsep.data.digits, clients: 3, validation: 20}
model: {use: fedsep.models.logistic}
methods:
  - {use: fedsep.algorithms.fedavg, steps: 1, batch_size: 8}
  - {use: fedsep.algorithms.fedsep_linear, p: 20, steps: 1, batch_size: 8}
evaluate: {every: 1}
checkpoint: {every: 1}
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder with a recipe in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    return tmp_path


@pytest.fixture
def page(request, monkeypatch):
    """The report takes seconds to draw; one test looks at the real one."""

    def write(paths, to):
        (Path(to) / "report.html").touch()
        return Path(to) / "report.html"

    if "end_to_end" not in request.node.name:
        monkeypatch.setattr("fedsep.report.write_report", write)


@pytest.fixture
def command(capsys):
    """Runs a command; gives exit code, standard output and standard error."""

    def run(*words):
        code = invoke(words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
