"""Models of a zoo's clients are exported as the server last averaged them, each with what it was made from."""

import json

import pytest
import torch

from fedsep import models
from fedsep.cli import invoke
from fedsep.core import FedSepError
from fedsep.export import exporting
from fedsep.export.finished import finished
from fedsep.recipes import Sources, build, read

RECIPE = """
rounds: 2
data: {use: fedsep.data.digits, clients: 4, partition: {use: fedsep.data.classes, k: 5}, validation: 60, public: 40}
model: {use: fedsep.models.resnet, blocks: [1], width: 8, features: 6}
task: {use: fedsep.tasks.classification}
methods:
  - {use: fedsep.algorithms.feddf, zoo: &zoo {0.25: {use: fedsep.models.mlp, hidden: [5]},
     0.5: &half {use: fedsep.models.resnet, blocks: [1], width: 4, features: 6}}, server_steps: 2,
     lr: 0.1, steps: 2, batch_size: 16}
  - {use: fedsep.algorithms.fedet, zoo: {0.5: *half}, server_steps: 2, lr: 0.1, steps: 2, batch_size: 16}
  - {use: fedsep.algorithms.dsfl, zoo: *zoo, per_round: 20, distil_steps: 2, lr: 0.1, steps: 2, batch_size: 16}
cohort: {capabilities: [1.0, 0.5], draw: DRAW}
engine: {use: fedsep.engines.sequential}
evaluate: {every: 1, average: 0.5}
"""


@pytest.fixture(scope="module")
def folder(ran):
    return ran(RECIPE, {"ordered": {"feddf", "fedet", "dsfl"}, "dynamic": {"feddf"}})


@pytest.mark.parametrize(("method", "capability", "name", "width"), [
    ("feddf", 1.0, "1", 8), ("feddf", 0.5, "0.5", 4), ("feddf", 0.7, "0.5", 4), ("fedet", 1.0, "1", 8),
    ("fedet", 0.5, "0.5", 4),
])  # fmt: skip
def test_the_model_of_a_capability_is_what_the_server_keeps_of_it(folder, tmp_path, method, capability, name, width):
    run = folder / "ordered" / method / "seed0"
    done = exporting.export(run, capability=capability, out=tmp_path / "x")
    kept = finished(run, Sources()).state.x[name]
    module = models.load(done.folder / "model.safetensors")
    assert module.stages[0][0].conv1.weight.shape[0] == width
    own = dict(module.named_parameters())
    assert own.keys() == kept.keys()
    assert all(torch.equal(own[each], part) for each, part in kept.items())
    assert done.facts["chosen"] == f"the model of clients of capability {name}"
    assert (done.facts["capability"], done.facts["parameters"]) == (float(name), done.facts["of"])
    agreement = done.facts["agreement"]
    assert (agreement["masked"], agreement["examples"]) == (None, 256)
    assert max(agreement["sliced"], agreement["program"]) < 1e-9
    test = build(read(run / "recipe.yaml"), 0).federation.test
    with torch.no_grad():
        hit = (module(test.all().x).argmax(-1) == test.y).double().mean()
    assert done.facts["metrics"]["accuracy"] == pytest.approx(float(hit))
    alone = torch.export.load(done.folder / "model.pt2").module()(test.all().x[:3])
    assert torch.allclose(alone, module(test.all().x[:3]), atol=1e-9)


def test_another_architecture_is_built_from_its_own_block(folder, tmp_path, capsys):
    run = folder / "ordered/feddf/seed0"
    assert invoke(["export", str(run), "--capability", "0.25"]) == 0
    out = run / "export/clients_0.25"
    assert f'fedsep.models.load("{(out / "model.safetensors").as_posix()}")' in capsys.readouterr().out.replace(
        "\n", ""
    )
    told = json.loads((out / "export.json").read_text())
    assert told["made_from"]["use"] == "fedsep.models.mlp"
    assert next(tuple(part.shape) for part in models.load(out / "model.safetensors").parameters()) == (5, 64)


def test_the_server_s_own_model_is_another_one(folder, tmp_path):
    run = folder / "ordered/fedet/seed0"
    whole = exporting.export(run, out=tmp_path / "whole").facts
    ones = exporting.export(run, capability=1.0, out=tmp_path / "ones").facts
    assert whole["chosen"].startswith("the whole model")
    assert whole["metrics"] != ones["metrics"]


def test_a_client_has_the_model_of_its_capability_and_statistics_of_its_own_data(folder, tmp_path):
    run = folder / "ordered/feddf/seed0"
    found = {client: exporting.export(run, client=client, out=tmp_path / f"{client}") for client in (0, 2, 3)}
    assert [done.facts["capability"] for done in found.values()] == [1.0, 0.5, 0.5]
    assert found[2].facts["chosen"] == "the model of clients of capability 0.5, such as client 2"
    tensors = [dict(models.load(found[client].folder / "model.safetensors").named_buffers()) for client in (2, 3)]
    assert not torch.equal(*(each["norm.1.mean"] for each in tensors))
    again = exporting.export(run, client=0, capability=0.5, out=tmp_path / "again").facts
    assert again["capability"] == 0.5


@pytest.mark.parametrize(("words", "told"), [
    (["dynamic/feddf/seed0", "--client", "1"], "--capability: say which: client 1 has another capability"),
    (["ordered/feddf/seed0", "--client", "4"], "--client: must be one of the run's clients, 0 to 3 (got 4)"),
    (["ordered/feddf/seed0", "--capability", "0.1"], "--capability: zoo must have a model for clients of"),
    (["ordered/feddf/seed0", "--capability", "0.5", "--average"], "--average: the run keeps the average of the"),
    (["ordered/feddf/seed0", "--capability", "1.5"], "--capability: must be > 0 and <= 1 (got 1.5)"),
    (["ordered/dsfl/seed0", "--capability", "0.5"], "the models of the clients of dsfl never leave them"),
    (["ordered/dsfl/seed0", "--client", "1"], "--client: the models of the clients of dsfl never leave them"),
])  # fmt: skip
def test_what_cannot_be_exported_is_said(folder, capsys, words, told):
    assert invoke(["export", str(folder / words[0]), *words[1:]]) == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_the_average_is_of_the_server_s_model(folder, tmp_path):
    run = folder / "ordered/feddf/seed0"
    average, last = (exporting.export(run, capability=1.0, average=each, out=tmp_path / f"{each}").facts
                     for each in (True, False))  # fmt: skip
    assert average["average"]
    assert average["metrics"] != last["metrics"]
    with pytest.raises(FedSepError, match="keeps the average of the server's model alone"):
        exporting.export(folder / "ordered/fedet/seed0", capability=1.0, average=True, out=tmp_path / "none")
