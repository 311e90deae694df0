"""``check``, ``ls``, ``show``, ``report``, ``compare``."""

from __future__ import annotations

import json
import re
import shutil
import sys
from functools import partial

import pytest

from fedsep import models, operators, tasks
from fedsep.algorithms import fedavg, fedsep_linear, fedsep_mask
from fedsep.cli import invoke
from fedsep.cli.check import traffic_table
from fedsep.cli.docstring import docstring
from fedsep.cli.kinds import KINDS, parts
from fedsep.cli.measure import measure
from fedsep.cli.show import _default
from fedsep.data import digits
from fedsep.recipes.bind import signature
from fedsep.train import fit


@pytest.fixture(scope="module")
def federation():
    return digits(clients=3, validation=20)


def make(federation, factory, **arguments):
    task = tasks.classification(models.logistic(federation.shape, federation.classes))
    return task, factory(task, steps=2, batch_size=8, **arguments)


def test_measured_bytes_are_those_of_a_run(federation, tmp_path):
    for factory, arguments in ((fedavg, {}), (fedsep_linear, {"p": 20, "period": 3})):
        task, algorithm = make(federation, factory, **arguments)
        cost = measure(algorithm, task, federation, 1.0, 8)
        fit(algorithm, task, federation, rounds=3, out=tmp_path, name=factory.__name__)
        ledger = (tmp_path / factory.__name__ / "seed0/ledger.jsonl").read_text().splitlines()
        real = {
            (row["round"], row["direction"]): row["payload"] for row in map(json.loads, ledger) if row["client"] == 0
        }
        assert [(t.up, t.down) for t in cost.rounds] == [(real[r, "up"], real[r, "down"]) for r in (1, 2, 3)]


def test_rounds_in_which_the_whole_model_is_sent_are_told_apart(federation):
    model = models.mlp(federation.shape, federation.classes, hidden=(8,))
    task = tasks.classification(model, shape=federation.shape)
    cost = measure(fedsep_mask(task, steps=1), task, federation, 0.5, 8)
    assert cost.rounds[0] == cost.rounds[2]
    assert cost.rounds[0].down - cost.rounds[1].down == 8 * 4 * (64 + 1 + 10)
    assert cost.rounds[0].up - cost.rounds[1].up == 2 * 8 + 4
    rounds = list(traffic_table({("fedsep_mask", 0.5): cost}).columns[2].cells)
    assert rounds == ["1, 3", "2"]


def test_memory_is_counted(federation):
    task, algorithm = make(federation, fedavg)
    d = sum(part.numel() for part in task.init().values())
    cost = measure(algorithm, task, federation, 1.0, 8)
    assert cost.client["memory between rounds"] == 0
    assert cost.client["start, current point, gradient"] == 3 * 8 * d
    assert cost.server["one reply"] == 8 * d  # the tests are in double precision
    task, algorithm = make(federation, fedsep_linear, p=20, operator=operators.gaussian)
    cost = measure(algorithm, task, federation, 1.0, 8)
    assert cost.client["memory between rounds"] == 8 * d + 8  # the anchor and its digest
    sketch = 8 * 20 * d
    assert sketch <= cost.client["kept by the method (sketches)"] <= 3 * sketch
    assert cost.client["activations of a batch of 8"] >= 8 * 8 * 64


def test_a_large_stored_sketch_is_counted_but_not_made(federation, monkeypatch):
    task, algorithm = make(federation, fedsep_linear, p=20, operator=operators.gaussian)
    d = sum(part.numel() for part in task.init().values())
    plain = measure(algorithm, task, federation, 1.0, 8)
    monkeypatch.setattr("fedsep.cli.measure._LARGE", 8 * 20 * d - 1)
    monkeypatch.setattr(sys.modules["fedsep.operators.gaussian"], "_normal", None)
    task, algorithm = make(federation, fedsep_linear, p=20, operator=operators.gaussian, seed=7)
    cost = measure(algorithm, task, federation, 1.0, 8)
    assert cost.rounds == plain.rounds
    assert cost.client["a stored sketch (not made here)"] == 8 * 20 * d
    assert sum(plain.client.values()) <= 1.5 * sum(cost.client.values())


def test_check(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert invoke(["check", "quickstart", "--set", "methods.fedsep_linear.p=30"]) == 0
    out = capsys.readouterr().out
    assert "momentum: 0.0" in out
    assert "4,810 parameters" in out
    lines = [line.split() for line in out.splitlines()]
    assert ["fedavg", "1", "every", "38,480", "38,480"] in lines  # in double precision, as all tests are
    assert ["fedsep_linear", "1", "1", "240", "0"] in lines
    assert ["fedsep_linear", "1", "later", "240", "240"] in lines
    assert "header of 32 bytes" in out
    assert list(tmp_path.iterdir()) == []


def test_check_goes_on_after_a_bad_recipe(capsys, tmp_path):
    (tmp_path / "bad.yaml").write_text("rounds: 0")
    assert invoke(["check", str(tmp_path / "bad.yaml"), "quickstart"]) == 2
    out, err = capsys.readouterr()
    assert "rounds: must be a whole number >= 1 (got 0)" in err
    assert "38,480" in out


@pytest.mark.parametrize("kind", [*KINDS, "recipes"])
def test_ls(kind, capsys):
    assert invoke(["ls", kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines), "everything says in a line what it is"


def test_ls_finds_what_there_is(capsys):
    assert invoke(["ls"]) == 0
    out = capsys.readouterr().out
    for word in (
        "fedavg",
        "mnist",
        "dirichlet",
        "cnn",
        "regression",
        "Implicit",
        "cosine",
        "yogi",
        "workers",
        "quickstart",
    ):
        assert f"\n  {word} " in out


@pytest.mark.parametrize("path", [path for kind in KINDS for path, _ in parts(kind)])
def test_show(path, capsys):
    assert invoke(["show", path]) == 0
    out = capsys.readouterr().out
    assert out.startswith(path + "\n")
    assert ".py:" in out.splitlines()[-1]
    if path.startswith("fedsep.algorithms."):
        assert "\nBytes\n" in out


def test_show_explains_parameters(capsys):
    assert invoke(["show", "fedsep_linear"]) == 0
    lines = capsys.readouterr().out.splitlines()
    lr = next(line for line in lines if line.startswith(" lr "))
    assert "a number > 0" in lr
    assert "0.1" in lr
    assert "local learning rate" in lr
    assert any(line.split()[:1] == ["p"] and "required" in line for line in lines)
    assert "A recipe fills in task, seed." in lines
    assert "  up: 4 * p" in lines


def test_show_prints_a_recipe(capsys):
    assert invoke(["show", "mnist_cnn/fedavg"]) == 0
    assert "use: fedsep.data.mnist" in capsys.readouterr().out


def test_docstring_parts():
    def example():
        """What it
        does.

        x <- y

        Args:
            a: First,
                continued: here.
            b (int): Second.

        Bytes:
            up: 4
            down: 8

        More about bytes.

        Reference:
            A paper.
        """

    found = docstring(example)
    assert found.summary == "What it does."
    assert found.body == "x <- y"
    assert found.arguments == {"a": "First, continued: here.", "b": "Second."}
    assert found.sections["Bytes"] == "up: 4\ndown: 8\n\nMore about bytes."
    assert found.sections["Reference"] == "A paper."


def test_report_and_compare(federation, tmp_path, capsys):
    for seed in (0, 1):
        task, algorithm = make(federation, fedavg)
        fit(algorithm, task, federation, rounds=2, seed=seed, out=tmp_path, name="fedavg", recipe={"rounds": 2})
    assert invoke(["compare", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "0, 1" in out
    assert "±" in out
    assert invoke(["compare", str(tmp_path / "fedavg/seed1"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seed"] == 1
    shutil.copytree(tmp_path / "fedavg/seed1", tmp_path / "copy/fedavg/seed1")
    assert invoke(["compare", str(tmp_path)]) == 0
    told, left_out = capsys.readouterr()
    assert (told, left_out.count("repeats seed 1 of")) == (out, 1)
    shutil.rmtree(tmp_path / "copy")
    assert invoke(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/report.html\n"
    assert (
        invoke(["report", str(tmp_path / "fedavg/seed0"), str(tmp_path / "fedavg/seed1"), "--to", str(tmp_path / "x")])
        == 0
    )
    assert (tmp_path / "x/report.html").stat().st_size > 1000


BAD = {
    "{use: fedsep.algorithms.fedsep_linear, p: 999999}": r"must be at most d = 307210.*\(got 999999\)",
    "{use: fedsep.algorithms.fedsep_linear, p: 1000, operator: fedsep.operators.gaussian}":
        r"m1\.p: must be smaller: a stored 1000 x 307210 matrix takes 2\.\d GiB, the limit is 2.*block_srht",
    "{use: fedsep.algorithms.fedsep_lasso, p: 20, beta: 1.5}": r"makes the start absorbing.*choose it below 1",
    "{use: fedsep.algorithms.fedsep_lasso, p: 20, decoder: ista, gamma: 10}": r"must be below 2 / \|S\|\^2 = 0\.\d+",
    "{use: fedsep.algorithms.topk_ef, k: 999999}": r"must be at most 307210.*\(got 999999\)",
    "{use: fedsep.algorithms.fetchsgd, p: 100, rows: 4}": r"must be odd.*\(got 4\)",
    "{use: fedsep.algorithms.fetchsgd, p: 100, k: 999999}": r"must be at most d = 307210.*\(got 999999\)",
    "{use: fedsep.algorithms.stc, k: 5, downlink: {use: fedsep.wires.error_feedback, wire: {use: fedsep.wires.sign}}}":
        r"must be a wire without error feedback",
    "{use: fedsep.algorithms.fedavg, uplink: {use: fedsep.wires.topk, k: 999999}}": r"topk: k must be at most",
}  # fmt: skip
"""Methods that cannot work on a model of 307,210 parameters, and what is said of each."""


def test_check_finds_every_mistake_of_compressed_methods_before_anything_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    methods = "\n".join(f"  - {text[:-1]}, name: m{at}}}" for at, text in enumerate(BAD))
    head = "rounds: 3\ndata: {use: fedsep.data.digits, clients: 2}\nmodel: {use: fedsep.models.mlp, hidden: [4096]}\n"
    (tmp_path / "bad.yaml").write_text(f"{head}methods:\n{methods}\n")
    assert invoke(["check", "bad.yaml"]) == 2
    told = capsys.readouterr().err
    for at, pattern in enumerate(BAD.values()):
        assert re.search(rf"methods\.(?=m{at}\b).*{pattern}", told), (pattern, told)
    (tmp_path / "bits.yaml").write_text(f"{head}method: {{use: fedsep.algorithms.fedsep_quantised, p: 20, bits: 9}}\n")
    assert invoke(["check", "bits.yaml"]) == 2
    assert "bits" in (told := capsys.readouterr().err)
    assert "8" in told
    assert {path.name for path in tmp_path.iterdir()} == {"bad.yaml", "bits.yaml"}


def test_check_tells_a_typo_before_it_downloads_and_not_that_the_data_are_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fedsep.data.known.find", lambda *_: None)
    monkeypatch.setattr("fedsep.data.known.fetch", lambda *_: pytest.fail("it was downloaded"))
    methods = "[{use: fedsep.algorithms.fedavg}, {use: fedsep.algorithms.fedprox, mew: 1.0}]"
    text = f"rounds: 3\ndata: {{use: fedsep.data.mnist}}\nmodel: {{use: fedsep.models.mlp}}\nmethods: {methods}\n"
    (tmp_path / "typo.yaml").write_text(text)
    assert invoke(["check", "typo.yaml", "--download"]) == 2
    told = capsys.readouterr().err
    assert "mew" in told
    assert "not found" not in told
    assert invoke(["check", "typo.yaml"]) == 2
    told = capsys.readouterr().err
    assert "mew" in told
    assert "mnist was not found" in told


def test_no_default_is_shown_by_its_address(capsys):
    assert invoke(["show", "fedsep_implicit"]) == 0
    assert "What it is given, as it is" in " ".join(capsys.readouterr().out.split())
    shown = {
        _default(parameter.default): path
        for kind in KINDS
        for path, found in parts(kind)
        if callable(found)
        for parameter in signature(found)[0].values()
    }
    assert not [(text, path) for text, path in shown.items() if "0x" in text]
    assert _default([object()]) == "[object]"
    assert _default([lambda: 0]) == "list"
    assert _default(partial(len)) == "len"
    assert _default(lambda: 0) == "a function"


def test_a_client_that_holds_more_than_its_share_is_told_of(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "narrow.yaml").write_text("""
rounds: 1
data: {use: fedsep.data.digits, clients: 3}
model: {use: fedsep.models.small_cnn, widths: [4, 8], pool: 1}
method: {use: fedsep.algorithms.heterofl, steps: 1, batch_size: 4}
cohort: {per_round: 2, capabilities: [1.0, 0.25, 0.125]}
""")
    assert invoke(["check", "narrow.yaml"]) == 0
    said = capsys.readouterr().err
    told = "methods.heterofl: a client of capability {} keeps one unit where it would have less: of {} 1 in {}"
    assert told.format("0.125", "convs.0", 4) in said.replace("\n", " ")
    assert "capability 0.25" not in said
