"""What runs write down of sub-models, and the pictures that are made of it."""

import json
import re

import pytest
import torch

from fedsep import algorithms, data, models, tasks
from fedsep.core import Ctx, FedSepError
from fedsep.coverage import BINS, covered, overlaps
from fedsep.report import read_run
from fedsep.report.grouping import group_runs
from fedsep.report.page import make_page
from fedsep.report.submodels import make_submodel_figures, read_submodels
from fedsep.train import Checkpoint, Cohort, Evaluate, fit

COHORT = Cohort(3, (1.0, 0.5, 0.25), "dynamic")
EVALUATE = Evaluate(every=2, levels=(1.0, 0.5, 0.25), held=0.5, average=0.5)


@pytest.fixture(scope="module")
def federation():
    torch.set_default_dtype(torch.float64)
    return data.digits(clients=5, partition=data.classes(4), validation=50)


@pytest.fixture(scope="module")
def task(federation):
    torch.set_default_dtype(torch.float64)
    module = models.small_cnn(federation.shape, federation.classes, widths=(4, 8), pool=1)
    return tasks.classification(module, shape=federation.shape)


def run(task, federation, name, out, rounds=4, **more):
    method = getattr(algorithms, name)(task, lr=0.1, steps=2, batch_size=16)
    return fit(method, task, federation, rounds=rounds, cohort=COHORT, evaluate=EVALUATE, out=out, name=name, **more)


@pytest.fixture(scope="module")
def out(task, federation, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name in ("heterofl", "federated_dropout", "fedavg"):
        run(task, federation, name, folder)
    return folder


def lines(folder):
    return [json.loads(line) for line in (folder / "submodels.jsonl").read_text().splitlines()]


def test_each_round_says_how_many_clients_trained_each_unit(out):
    for name in ("heterofl", "federated_dropout"):
        rows = [row for row in lines(out / name / "seed0") if "trained" in row]
        assert [row["round"] for row in rows] == [1, 2, 3, 4]
        for row in rows:
            capabilities = COHORT.capability(0, row["round"] - 1, COHORT.members(0, row["round"] - 1, 5), 5)
            assert row["clients"] == 3
            for layer, n in row["units"].items():
                kept = sorted((-(-n * share // 1) for share in capabilities), reverse=True)
                assert sum(row["trained"][layer]) == sum(kept)
                if name == "heterofl":
                    assert row["trained"][layer] == [sum(count > unit for count in kept) for unit in range(n)]


def test_methods_without_sub_models_write_nothing_down(out):
    assert not (out / "fedavg/seed0/submodels.jsonl").exists()
    names = {name for row in read_run(out / "fedavg/seed0").rows for name in row}
    assert not any("held" in name or "level" in name for name in names)


def right_among_own(task, params, shard):
    """Accuracy of a client that chooses among the classes it learns from."""
    own, test = sorted(set(shard.train.y.tolist())), shard.test.all()
    scores = task.predict(params, test.x)[:, own]
    return sum(own[best] == label for best, label in zip(scores.argmax(1), test.y.tolist(), strict=True)) / len(test.y)


def test_levels_are_the_slices_and_held_models_meet_the_clients_own_test_parts(task, federation, out):
    method, last = algorithms.heterofl(task), read_run(out / "heterofl/seed0").rows[-1]
    from safetensors.torch import load_file

    params, test = load_file(out / "heterofl/seed0/model.safetensors"), federation.test.all()
    for share in (1.0, 0.5, 0.25):
        part = method.submodel(method.init(params), params, Ctx(4, share, torch.tensor(0)))
        own = task.metrics(task.predict(part, test.x), test.y)
        assert last[f"test_level_{share:g}_accuracy"] == own["accuracy"]
    half = method.submodel(method.init(params), params, Ctx(4, 0.5, torch.tensor(0)))
    each = [right_among_own(task, half, federation.shard(client)) for client in range(5)]
    assert last["client_held_accuracy"] == pytest.approx(sum(each) / 5)
    metrics = read_run(out / "heterofl/seed0").summary["metrics"]
    rows = [row for row in read_run(out / "heterofl/seed0").rows if "client_held_accuracy" in row]
    assert metrics["client_held_accuracy"]["best"] == max(row["client_held_accuracy"] for row in rows)
    assert metrics["level_0.5_accuracy"]["best"] == max(row["test_level_0.5_accuracy"] for row in rows)
    assert "test_average_accuracy" in last
    assert not any("average_level" in name for name in last)
    assert metrics["level_0.5_loss"]["best"] == min(row["test_level_0.5_loss"] for row in rows)


def test_a_resumed_run_writes_the_same_down(task, federation, out, tmp_path):
    run(task, federation, "federated_dropout", tmp_path, rounds=3, checkpoint=Checkpoint(every=2))
    folder = tmp_path / "federated_dropout/seed0"
    with (folder / "submodels.jsonl").open("a") as file:
        file.write('{"round": 99}\n')
    run(task, federation, "federated_dropout", tmp_path, resume=True)
    told = (folder / "submodels.jsonl").read_text().splitlines()
    whole = (out / "federated_dropout/seed0/submodels.jsonl").read_text().splitlines()
    assert [line for line in told if '"round": 3, "held"' not in line] == whole  # its last round was one to evaluate


def test_overlaps_by_hand():
    held = [({"a": torch.tensor([0, 1])}, torch.tensor([0, 0, 1])), ({"a": torch.tensor([1, 2])}, torch.tensor([1, 0])),
            ({"a": torch.tensor([2, 3])}, torch.tensor([2, 1]))]  # fmt: skip
    assert overlaps(held, {"a": 4}) == [[0.3333, round((0 + 1 / 3) / 2, 4), 2], [1.0, 0.3333, 1]]
    assert overlaps(held[:1], {"a": 4}) == []


def test_units_of_wide_layers_are_averaged_in_places(task, federation):
    module = models.mlp(federation.shape, 10, hidden=[200])
    wide = tasks.classification(module, shape=federation.shape)
    method = algorithms.heterofl(wide)
    seats = COHORT.invitations(0, 0, [0, 1, 2], torch.full((5,), -1), lambda client: None)
    told = covered(method, method.init(wide.init()), seats, [0, 2], lambda client: None)
    [counts] = told["trained"].values()
    assert len(counts) == BINS
    assert told["clients"] == 2
    assert counts == sorted(counts, reverse=True)


def test_the_page_has_pictures_of_sub_models_where_there_are_any(out):
    groups = group_runs(read_run(out / name / "seed0") for name in ("heterofl", "federated_dropout", "fedavg"))
    titles = [figure.title for figure in make_submodel_figures(groups)]
    assert titles == [
        "heterofl: test accuracy of the server's sub-models",
        "federated_dropout: test accuracy of the server's sub-models",
        "heterofl: which units are trained when",
        "federated_dropout: which units are trained when",
        "Where trained units lie, by depth",
        "Do clients with like classes train like units?",
    ]
    page = make_page(groups)
    assert 'href="#submodels"' in page
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert make_submodel_figures(groups[2:]) == []
    seen = read_submodels(read_run(out / "heterofl/seed0"))
    assert all(alike == 1 for _, alike, _ in seen.overlap)
    dropped = read_submodels(read_run(out / "federated_dropout/seed0"))
    assert all(alike < 1 for _, alike, _ in dropped.overlap)
    assert seen.share("convs.0").shape == (4, 4)


def test_widths_that_cannot_be_cut_are_refused_before_a_run(federation):
    module = models.resnet(federation.shape, 10, blocks=[1], width=8, norm="group", groups=4)
    grouped = tasks.classification(module, shape=federation.shape)
    cohort = Cohort(3, (1.0, 0.5))
    for options in (Evaluate(held=0.25), Evaluate(levels=(1.0, 0.25)), Evaluate(served=(1.0, 0.25))):
        with pytest.raises(
            FedSepError, match=r"evaluate: group normalisation .* has 4 groups, which do not divide the 2"
        ):
            fit(algorithms.heterofl(grouped), grouped, federation, rounds=1, cohort=cohort, evaluate=options)
    served = Evaluate(served=(1.0, 0.25))
    for method in (algorithms.homogeneous, algorithms.exclude):  # whose clients hold nothing so narrow
        with pytest.raises(FedSepError, match=r"evaluate: group normalisation .* has 4 groups"):
            fit(method(grouped), grouped, federation, rounds=1, cohort=cohort, evaluate=served)
    masked = algorithms.fedsep_mask(grouped, budget="params")  # served by width, whatever a budget allows clients
    with pytest.raises(FedSepError, match=r"evaluate: group normalisation .* has 4 groups"):
        fit(masked, grouped, federation, rounds=1, cohort=Cohort(3), evaluate=served)
    with pytest.raises(FedSepError, match=r"evaluate.levels must be > 0 and <= 1 \(got 1.5\)"):
        fit(
            algorithms.heterofl(grouped), grouped, federation, rounds=1, cohort=cohort, evaluate=Evaluate(levels=(1.5,))
        )
