"""What ``fedsep export`` writes computes what the run's model computes, and says so only where it does."""

import json
import re
import shutil
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from fedsep import algorithms, data, fit, models, pack, tasks
from fedsep.cli import invoke
from fedsep.core import FedSepError
from fedsep.export import exporting
from fedsep.export.finished import finished
from fedsep.export.held import held
from fedsep.holding import places, units_at
from fedsep.models import smaller as smaller_module
from fedsep.models.exported import Origin, dump
from fedsep.recipes import Sources, read

RECIPE = """
rounds: 2
data: {use: fedsep.data.digits, clients: 5, partition: {use: fedsep.data.classes, k: 4}, validation: 100}
model: {use: fedsep.models.resnet, blocks: [1], width: 8}
task: {use: fedsep.tasks.classification}
methods:
  - {use: fedsep.algorithms.heterofl, lr: 0.1, steps: 3, batch_size: 16}
  - {use: fedsep.algorithms.federated_dropout, lr: 0.1, steps: 3, batch_size: 16}
  - {use: fedsep.algorithms.splitmix, blocks: 4, lr: 0.1, steps: 3, batch_size: 16}
  - {use: fedsep.algorithms.fedavg, lr: 0.1, steps: 3, batch_size: 16}
  - {use: fedsep.algorithms.zerofl, density: 1.0, served: [1.0, 0.3], lr: 0.1, steps: 3, batch_size: 16}
  - {use: fedsep.algorithms.homogeneous, lr: 0.1, steps: 3, batch_size: 16}
cohort: {capabilities: [0.5, 0.25], draw: DRAW}
engine: {use: fedsep.engines.sequential}
evaluate: {every: 1, served: [1.0, 0.5], average: 0.5}
"""


@pytest.fixture(scope="module")
def folder(ran):
    dynamic = {"heterofl", "splitmix", "fedavg", "homogeneous", "zerofl"}
    return ran(RECIPE, {"fixed": {"federated_dropout"}, "dynamic": dynamic})


def facts(where):
    return json.loads((where / "export.json").read_text())


def test_the_served_width_is_exported_and_loads_in_one_line(folder, tmp_path, capsys):
    run = folder / "dynamic/heterofl/seed0"
    assert invoke(["export", str(run), "--out", str(tmp_path / "x")]) == 0
    out = capsys.readouterr().out
    told, served = facts(tmp_path / "x"), json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert told["capability"] == served["served_width"]
    assert told["metrics"]["accuracy"] == served["test_served_accuracy"]
    assert max(told["agreement"][name] for name in ("sliced", "masked", "program")) < 1e-9
    lines = re.findall(r"^import (?:fedsep|torch); module = .*$", out, re.M)
    x = torch.rand(7, 1, 8, 8)
    found = []
    for line in lines:
        scope = {}
        exec(line, scope)
        found.append(scope["module"](x))
    assert len(found) == 2
    assert torch.allclose(*found, atol=1e-12)


def test_a_homogeneous_network_is_exported_at_the_width_that_was_served(folder, tmp_path):
    run = folder / "dynamic/homogeneous/seed0"
    row = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    told = {}
    for width in (0.5, 1.0):
        other = {**row, "served_width": width}
        copied = tmp_path / f"{width}" / "homogeneous/seed0"
        shutil.copytree(run, copied)
        (copied / "metrics.jsonl").write_text(json.dumps(other) + "\n")
        told[width] = exporting.export(copied, out=tmp_path / f"x{width}").facts
        assert told[width]["capability"] == width
    assert told[0.5]["parameters"] < told[1.0]["parameters"]
    assert told[row["served_width"]]["metrics"]["accuracy"] == row["test_served_accuracy"]
    with pytest.raises(FedSepError, match="cuts no sub-models for its clients"):
        exporting.export(run, client=0, out=tmp_path / "none")


def test_the_served_density_is_exported(folder, tmp_path):
    run = folder / "dynamic/zerofl/seed0"
    row = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    for density, part in {0.3: 0.3, 1.0: 1.0, None: row["served_density"]}.items():
        copied = tmp_path / f"{density}/zerofl/seed0"
        shutil.copytree(run, copied)
        other = {name: value for name, value in row.items() if name != "served_density"}
        other |= {} if density is None else {"served_density": density}
        (copied / "metrics.jsonl").write_text(json.dumps(other) + "\n")
        done = exporting.export(copied, out=tmp_path / f"x{density}")
        kept = models.load(done.folder / "model.safetensors").stages[0][0].conv1.weight.count_nonzero()
        assert int(kept) == round(part * 8 * 8 * 9)
        assert f"with {part:g} of its weights" in done.facts["chosen"]
    assert "the best of 1, 0.3 on validation data" in done.facts["chosen"]
    assert done.facts["metrics"]["accuracy"] == row["test_served_accuracy"]


def test_layers_are_as_narrow_as_they_say_and_the_statistics_are_in_the_file(folder, tmp_path):
    done = exporting.export(folder / "dynamic/heterofl/seed0", capability=0.25, out=tmp_path / "x")
    module = models.load(done.folder / "model.safetensors")
    convolution = module.stages[0][0].conv1
    assert (convolution.in_channels, convolution.out_channels, *convolution.weight.shape[:2]) == (2, 2, 2, 2)
    assert module.head.in_features == 2
    names = {name for name, _ in module.named_buffers()}
    assert {"norm.1.mean", "norm.1.variance"} <= names
    assert done.facts["parameters"] == sum(part.numel() for part in module.parameters())
    one, two = torch.rand(1, 1, 8, 8), torch.rand(4, 1, 8, 8)
    both = module(torch.cat([one, two]))
    assert torch.allclose(module(one)[0], both[0], atol=1e-12)  # an input does not depend on the others
    assert (
        invoke(["export", str(folder / "dynamic/heterofl/seed0"), "--capability", "0.25", "--out", str(tmp_path / "x")])
        == 0
    )


def test_a_clients_own_sub_model(folder, tmp_path):
    run = folder / "fixed/federated_dropout/seed0"
    shares = {client: exporting.export(run, client=client, out=tmp_path / f"{client}").facts for client in (0, 1, 2)}
    recipe = read(run / "recipe.yaml")
    own = recipe.options()["cohort"].capability(0, 2, [0, 1, 2], 5)
    assert [told["capability"] for told in shares.values()] == own
    again = exporting.export(run, client=0, capability=own[1], out=tmp_path / "again").facts
    assert {group: len(units) for group, units in again["units"].items()} == {
        group: len(units) for group, units in shares[1]["units"].items()
    }
    assert again["units"] != shares[1]["units"]  # each draws its own
    assert shares[0]["metrics"] != shares[1]["metrics"]


def test_blocks_are_exported_as_their_mean(folder, tmp_path):
    run = folder / "dynamic/splitmix/seed0"
    done = exporting.export(run, capability=0.5, out=tmp_path / "x")
    module = models.load(done.folder / "model.safetensors")
    assert len(module) == 2
    x = torch.rand(3, 1, 8, 8)
    assert torch.allclose(module(x), (module[0](x) + module[1](x)) / 2)
    assert done.facts["agreement"]["masked"] is None


def test_the_average_is_exported_on_request(folder, tmp_path):
    run = folder / "dynamic/heterofl/seed0"
    done = exporting.export(run, average=True, out=tmp_path / "x")
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert done.facts["capability"] == last["average_served_width"]
    assert done.facts["metrics"]["accuracy"] == last["test_average_served_accuracy"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "nowhere: there is no such folder"),
        (["dynamic"], "holds several runs: name one of them"),
        (["dynamic/heterofl/seed0", "--capability", "1.5"], "--capability: must be > 0 and <= 1 (got 1.5)"),
        (["dynamic/heterofl/seed0", "--capability", "nan"], "--capability: must be > 0 and <= 1 (got nan)"),
        (["dynamic/heterofl/seed0", "--client", "5"], "--client: must be one of the run's clients, 0 to 4 (got 5)"),
        (
            ["dynamic/fedavg/seed0", "--capability", "0.5"],
            "can only be exported whole: leave --capability out (got 0.5)",
        ),
        (["dynamic/fedavg/seed0", "--client", "1"], "cuts no sub-models for its clients"),
        (["dynamic/heterofl/seed0", "--out", "full"], "is not empty and holds no export"),
    ],
)
def test_mistakes(folder, tmp_path, monkeypatch, capsys, words, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    where = str(folder / words[0]) if words[0] != "nowhere" else words[0]
    assert invoke(["export", where, *words[1:]]) == 2
    assert told in capsys.readouterr().err


def test_runs_that_are_not_finished_or_have_no_recipe(tmp_path, capsys):
    federation = data.digits(clients=3)
    task = tasks.classification(models.mlp(federation.shape, 10, hidden=[4]), shape=federation.shape)
    fit(algorithms.fedavg(task), task, federation, rounds=1, out=tmp_path)
    run = tmp_path / "run/seed0"
    assert invoke(["export", str(run)]) == 2
    assert "recipe.yaml is missing" in capsys.readouterr().err
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(summary | {"status": "interrupted"}))
    assert invoke(["export", str(run)]) == 2
    assert f"the run is not finished (interrupted): fedsep resume {run} goes on" in capsys.readouterr().err


def test_a_module_that_computes_something_else_is_not_exported(folder, tmp_path, monkeypatch):
    def forgetful(module, params):
        narrow = smaller_module(module, params)
        for layer in narrow.modules():
            if isinstance(layer, models.StaticNorm):
                layer.mean = torch.zeros_like(layer.mean)
        return narrow

    monkeypatch.setattr(exporting, "smaller", forgetful)
    with pytest.raises(FedSepError, match="the exported module is not the sub-model: outputs differ by"):
        exporting.export(folder / "dynamic/heterofl/seed0", capability=0.5, out=tmp_path / "x")
    assert not (tmp_path / "x/export.json").exists()


class Own(nn.Module):
    """A network with a tied weight, a transposed convolution, a constant and a group normalisation."""

    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose2d(1, 8, 3)
        self.norm = nn.GroupNorm(2, 8)
        self.same = nn.Conv2d(8, 8, 1, bias=False)
        self.again = self.same
        self.head = nn.Linear(8, 3)
        self.register_buffer("shift", torch.full((3,), 2.0))

    def forward(self, x):
        x = self.same(self.norm(self.up(x))).relu() + self.again(
            x.new_ones(1, 1, 1, 1).expand(1, self.up.weight.shape[1], 1, 1)
        )
        return self.head(x.mean((2, 3))) + self.shift


def test_a_module_of_the_users_own(tmp_path):
    module, part = Own(), {}
    keep = torch.tensor([5, 2, 7, 0])
    for name, tensor in module.named_parameters():
        dims = {"up.weight": (1,), "head.weight": (1,), "same.weight": (0, 1)}.get(
            name, (0,) if name != "head.bias" else ()
        )
        for dim in dims:
            tensor = tensor.index_select(dim, keep)
        part[name] = tensor.detach()
    narrow = models.smaller(module, part)
    assert narrow.again.weight is narrow.same.weight
    assert (narrow.up.in_channels, narrow.up.out_channels, narrow.norm.num_channels) == (1, 4, 4)
    x = torch.rand(2, 1, 5, 5)
    assert torch.equal(narrow(x), torch.func.functional_call(module, part, (x,)))
    assert module.up.out_channels == 8
    with torch.no_grad():
        narrow.shift += 1
    (tmp_path / "m").write_bytes(dump(narrow, Origin("mine.Own", {}, (1, 5, 5), 3, {})))
    assert torch.equal(models.load(tmp_path / "m", Own())(x), narrow(x))
    with pytest.raises(FedSepError, match=r"made from mine\.Own: give the whole module"):
        models.load(tmp_path / "m")
    with pytest.raises(FedSepError, match="made from another module: parameters are not the module's"):
        models.load(tmp_path / "m", nn.Linear(2, 2))
    (tmp_path / "plain").write_bytes(pack.dump_named({"a": torch.zeros(1)}))
    with pytest.raises(FedSepError, match="no sub-model that fedsep export wrote"):
        models.load(tmp_path / "plain")


@dataclass(frozen=True)
class Reported:
    """The first units of the order that the client reported."""

    def __call__(self, n, count, group, ctx):
        return (torch.arange(n) if ctx.report is None else ctx.report["order"][group])[:count]


@pytest.mark.parametrize("states", ["memory", "disk"])
def test_a_personal_plan_is_asked_with_the_clients_last_report(folder, tmp_path, monkeypatch, states):
    run = finished(folder / "dynamic/heterofl/seed0", Sources())
    sizes = list(run.algorithm.view.units.sizes.values())
    report = {"order": [torch.arange(n).flip(0) for n in sizes]}
    saved = run.saved
    told = torch.tensor([-1, 1, 0, -1, -1])
    reports = {1: report}
    if states == "disk":
        reports = {"blank": torch.tensor([], dtype=torch.int64)}
        (tmp_path / "reports/0").mkdir(parents=True)
        (tmp_path / "reports/0/1.1.safetensors").write_bytes(pack.dump(report))
    trees = {**saved.trees, "accepted": {**saved.trees["accepted"], "told": told}, "reports": reports}
    method = replace(run.algorithm, view=replace(run.algorithm.view, plan=Reported()))
    run = replace(run, folder=tmp_path, saved=saved._replace(trees=trees),
                  experiment=replace(run.experiment, algorithms={"m": method}))  # fmt: skip
    table = run.algorithm.view.units
    for client, last in ((1, True), (0, False)):
        units = units_at(table, run.params, held(run, 0.25, client).places)
        assert [max(index) - n for index, n in zip(units.values(), sizes, strict=True)] == [
            -1 if last else -(-n // 4) - 1 - n for n in sizes]  # fmt: skip


def test_units_are_told_by_the_places_of_numbers():
    """Also where a feature map is flattened, so that a linear layer reads several numbers a channel."""
    module = models.small_cnn((1, 8, 8), 3, widths=(4, 6), pool=1)
    table = models.units(module, (1, 8, 8))
    params = {name: part.detach() for name, part in module.named_parameters()}
    keep = {group: torch.tensor([n - 1, 1]) for group, n in table.sizes.items()}
    found = places(lambda given: table.cut(given, keep), params)
    assert units_at(table, params, found) == {group: [1, n - 1] for group, n in table.sizes.items()}
    for name, part in table.cut(params, keep).items():
        assert torch.equal(params[name].reshape(-1)[found[name]], part)
