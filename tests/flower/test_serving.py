"""A server's order, the process that carries it out, and what is left of earlier ones."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec

import pytest
from safetensors.torch import load_file

from fedsep.cli.entry import invoke
from fedsep.core import FedSepError
from fedsep.errors import RunFailed
from fedsep.flower.lock import holding
from fedsep.flower.order import Order, order_at
from fedsep.flower.programs import Programs, free_port
from fedsep.flower.serving import Place, _cleared, _followed, serve
from fedsep.recipes import find, read, write

needs_flower = pytest.mark.skipif(
    find_spec("flwr") is None, reason="Flower is not installed: pip install 'fedsep[flower]'"
)


@needs_flower
def test_an_order_is_found_again_and_its_engine_is_flower(tmp_path):
    order = Order("quickstart", str(tmp_path / "out"), changes=("rounds=2",), seed=3)
    order.folder.mkdir()
    assert order_at(order.write()) == order
    recipe = order.reading().read()
    assert (recipe.engine.use, recipe.rounds, recipe.seeds) == ("fedsep.engines.flower", 2, (3,))
    changed = Order("quickstart", str(tmp_path), changes=("engine={use: fedsep.engines.flower, timeout: 5}",))
    assert changed.reading().read().engine.arguments["timeout"] == 5
    part = Order("quickstart", str(tmp_path), changes=("engine.timeout=7",))
    assert part.reading().read().engine.arguments["timeout"] == 7
    with pytest.raises(FedSepError, match=r"--set: engine\.use must be fedsep\.engines\.flower"):
        Order("quickstart", changes=("engine.use=fedsep.engines.sequential",)).reading()
    with pytest.raises(FedSepError, match=r"engine\.nothing"):
        Order("quickstart", changes=("engine.nothing=1",)).reading()


@needs_flower
def test_what_a_server_goes_on_with_and_what_it_may_change(tmp_path):
    order = Order("quickstart", str(tmp_path), resume=True)
    with pytest.raises(FedSepError, match=r"nothing to resume: .*recipe\.yaml is missing"):
        order.require_resumable()
    write(order.reading().read().resolved(), tmp_path / "recipe.yaml")
    changed = replace(order, changes=("engine.timeout=5", "stop.patience=9"))
    changed.require_resumable()
    assert [change.value for change in changed.lasting()] == [5, 9]
    for others in ({"changes": ("rounds=3",)}, {"seed": 4}):
        with pytest.raises(FedSepError, match="only engine, stop and checkpoint may be changed"):
            replace(order, **others).require_resumable()
    write(read(find("quickstart")).resolved(), tmp_path / "recipe.yaml")
    with pytest.raises(FedSepError, match=r"\(got fedsep\.engines\.sequential\): .* fedsep resume .* goes on with it"):
        order.require_resumable()


OFFERED = """
rounds: 2
data: {data}
model: {{use: fedsep.models.mlp, hidden: [4]}}
methods:
  - {{use: fedsep.algorithms.fedavg, lr: 0.1, steps: 1, batch_size: 4}}
  - {method}
"""
AT_SITES = "{use: fedsep.data.sites, shape: [3], classes: 2, clients: 3}"


@needs_flower
@pytest.mark.parametrize(
    ("data", "method", "reason"),
    [
        ("{use: fedsep.data.csv, path: a.csv, target: b}", "{use: fedsep.algorithms.topk_ef, k: 2, lr: 0.1, steps: 1}",
         r"data\.path: is for the site to say, not for the server"),
        (AT_SITES, "{use: fedsep.privacy.distributed, clip: 1, noise: 1, replies: 2, fewest: 2, secret: 1, "
         "method: {use: fedsep.algorithms.fedavg, weighting: uniform, lr: 0.1, steps: 1}}",
         r"methods\.distributed\.secret"),
        (AT_SITES, "{use: fedsep.privacy.dp_sgd, clip: 1, noise: 1, batch_size: 4, "
         "method: {use: fedsep.algorithms.fedavg, weighting: uniform, lr: 0.1, steps: 1}}", r"methods\.dp_sgd.*sites"),
        (AT_SITES, "{use: os.system}", r"methods\.system\.use: only paths in fedsep may be named"),
        (AT_SITES, "{use: fedsep.algorithms.feddf, lr: 0.1, steps: 1, batch_size: 4}", r"methods\.feddf.*public"),
    ],
)  # fmt: skip
def test_what_sites_would_refuse_the_server_refuses_before_it_listens(tmp_path, capsys, data, method, reason):
    (tmp_path / "r.yaml").write_text(OFFERED.format(data=data, method=method))
    arguments = ["flower", "server", str(tmp_path / "r.yaml"), "--insecure", "--out", str(tmp_path / "out")]
    assert invoke(arguments) == 2
    said = capsys.readouterr().err
    assert re.search(reason, said), said
    assert "r.yaml: " in said


@needs_flower
def test_a_run_over_sites_goes_on_with_another_time_out(tmp_path, monkeypatch):
    """What the process that Flower starts does with an order, over sites in this process."""
    from fedsep.flower.local import LocalGrid
    from fedsep.flower.reception import Reception
    from fedsep.flower.rules import Rules
    from fedsep.flower.server_app import carried_out, connected

    grid = LocalGrid({1: Reception(Rules(tmp_path), tmp_path / "state")})
    given = {"changes": ("rounds=3", "methods=[{use: fedsep.algorithms.fedavg, lr: 0.1, steps: 1, batch_size: 8}]")}
    order = Order("quickstart", str(tmp_path / "out"), **given)
    assert carried_out(order, grid) == 0
    for log in (tmp_path / "out").glob("*/seed*/summary.json"):
        log.unlink()  # as if it had not come to its end
    again = Order("quickstart", str(tmp_path / "out"), changes=("engine.timeout=77",), resume=True)
    timeouts = []

    def spy(engine, grid, told):
        timeouts.append(engine.timeout)
        return connected(engine, grid, told)

    monkeypatch.setattr("fedsep.flower.server_app.connected", spy)
    assert carried_out(again, grid) == 0
    assert timeouts == [77]


def files(folder, but):
    """All but one of a folder's files."""
    return {file: file.read_bytes() for file in folder.iterdir() if file.is_file() and file != but}


@needs_flower
def test_going_on_with_a_finished_run_sends_its_model_again(tmp_path, capsys):
    from fedsep.flower.local import LocalGrid
    from fedsep.flower.reception import Reception
    from fedsep.flower.rules import Rules
    from fedsep.flower.server_app import carried_out

    grid = LocalGrid({1: Reception(Rules(tmp_path), tmp_path / "state")})
    given = {"changes": ("rounds=1", "methods=[{use: fedsep.algorithms.fedavg, lr: 0.1, steps: 1, batch_size: 8}]")}
    assert carried_out(Order("quickstart", str(tmp_path / "out"), **given), grid) == 0
    [model] = (tmp_path / "out").glob("fedavg/seed0/model.safetensors")
    [there] = (tmp_path / "state").glob("*/fedavg.safetensors")
    delivery = model.parent / "delivery.jsonl"
    results = files(model.parent, delivery)
    [crossed] = map(json.loads, delivery.read_text().splitlines())
    payload = sum(part.nbytes for part in load_file(model).values())
    assert {**crossed, "serialised": 0, "answer": 0} == {
        "site": "site", "payload": payload, "serialised": 0, "answer": 0, "problem": ""}  # fmt: skip
    assert crossed["serialised"] > payload > crossed["answer"] > 0
    assert there.read_bytes() == results[model]
    there.unlink()
    again = Order("quickstart", str(tmp_path / "out"), resume=True, changes=("engine.wait=5",))
    capsys.readouterr()
    assert carried_out(again, grid) == 0
    assert "site site has the final model" in capsys.readouterr().err
    assert there.read_bytes() == results[model]
    assert list(map(json.loads, delivery.read_text().splitlines())) == [crossed, crossed]
    assert files(model.parent, delivery) == results
    model.write_bytes(b"torn")
    capsys.readouterr()
    assert carried_out(again, grid) == 0
    told = capsys.readouterr()
    assert re.search(r"model\.safetensors: the model cannot be sent again: not readable", told.err)
    assert "Report: " in told.out


@needs_flower
def test_a_finished_run_does_not_keep_another_from_going_on(tmp_path, capsys):
    from fedsep.flower.local import LocalGrid
    from fedsep.flower.reception import Reception
    from fedsep.flower.rules import Rules
    from fedsep.flower.server_app import carried_out

    out = tmp_path / "out"
    grid = LocalGrid({1: Reception(Rules(tmp_path), tmp_path / "state")})
    method = "methods=[{use: fedsep.algorithms.fedavg, lr: 0.1, steps: 1, batch_size: 8}]"
    given = ("rounds=1", "seed=[0, 2]", method)
    assert carried_out(Order("quickstart", str(out), changes=given), grid) == 0
    (out / "fedavg/seed0/model.safetensors").unlink()
    unfinished = out / "fedavg/seed2/summary.json"
    unfinished.unlink()
    capsys.readouterr()
    assert carried_out(Order("quickstart", str(out), resume=True), grid) == 0
    assert unfinished.is_file()
    told = capsys.readouterr()
    assert "fedavg seed 0: " in told.err
    assert "the model cannot be sent again" in told.err
    assert "Report: " in told.out
    nobody = Order("quickstart", str(out), resume=True, changes=("engine.wait=0",))
    assert carried_out(nobody, LocalGrid({})) == 0
    told = capsys.readouterr()
    assert "fedavg seed 2: no site takes part after 0 s" in told.err
    assert "Report: " in told.out


HOLDING = """if True:
    import sys, time
    from pathlib import Path
    from fedsep.flower.lock import holding
    with holding(Path(sys.argv[1])):
        Path(sys.argv[1]).write_text("7")
        time.sleep(600)
"""


@contextmanager
def following(order):
    """What a server has when it shows what a run says; a program in place of Flower's."""
    with Programs(order.folder) as programs:
        programs.start("flower-superlink", [sys.executable, "-c", "import time; time.sleep(600)"])
        yield programs


def test_a_run_whose_process_was_killed_is_said_to_be_lost(tmp_path):
    order, said = Order("quickstart", str(tmp_path / "out")), []
    with following(order) as programs:
        (order.folder / "run.log").write_text("round 1/4\n")
        run = programs.start("run", [sys.executable, "-c", HOLDING, str(order.process)])
        while not order.process.is_file() or not order.process.read_text():
            time.sleep(0.05)
        threading.Timer(1.0, run.kill).start()
        with pytest.raises(
            RunFailed, match=r"ended without a word.*run\.log\); fedsep flower server .* --resume goes on"
        ):
            _followed(programs, order, said.append)
    assert said == ["round 1/4"]


def test_a_server_forgets_the_nodes_of_an_earlier_one(tmp_path):
    """A key that is not among the server's any more must not be in Flower's state either."""
    order = Order("quickstart", str(tmp_path / "out"))
    order.folder.mkdir()
    earlier = ("outcome.json", "run.pid", "run.log", "state.db", "state.db-wal", "state.db-shm")
    for name in (*earlier, "flower-superlink.log"):
        (order.folder / name).touch()
    _cleared(order)
    assert [file.name for file in order.folder.iterdir()] == ["flower-superlink.log"]


def test_the_run_of_a_server_that_was_killed_ends_before_another_begins(tmp_path, monkeypatch):
    order, begun, ended = Order("quickstart", str(tmp_path / "out")), threading.Event(), threading.Event()

    def saves_itself():
        with holding(order.process):
            order.process.write_text("7")
            begun.set()
            ended.wait()
            order.outcome.write_text('{"code": 130}')

    old = threading.Thread(target=saves_itself)
    old.start()
    begun.wait()
    monkeypatch.setattr("fedsep.flower.serving._SAVING", 0.0)
    with pytest.raises(FedSepError, match=r"the run of an earlier server has not ended \(process 7\)"):
        _cleared(order)
    monkeypatch.setattr("fedsep.flower.serving._SAVING", 60.0)
    threading.Timer(0.3, ended.set).start()
    _cleared(order)
    assert not order.outcome.exists()
    old.join()


def test_two_servers_do_not_share_their_results(tmp_path):
    order = Order("quickstart", str(tmp_path / "out"))
    with holding(order.folder / "lock"), pytest.raises(FedSepError, match="with these results is running already"):
        serve(order, Place("127.0.0.1", free_port(), None), print)


def test_a_run_that_is_not_started_is_said_to_be(tmp_path, monkeypatch):
    monkeypatch.setattr("fedsep.flower.serving._STARTING", 0.0)
    order = Order("quickstart", str(tmp_path / "out"))
    with following(order) as programs, pytest.raises(RunFailed, match=r"not started .* within 0 s .*superlink\.log"):
        _followed(programs, order, print)
