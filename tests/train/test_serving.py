"""Which width is served is decided on validation data; the average of the parameters goes on through a resume."""

import math
import re
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from fedsep import algorithms, data, models, tasks
from fedsep.core import FedSepError
from fedsep.serving import Densities, Judge, _best, averaged, judged
from fedsep.train import Checkpoint, Cohort, Evaluate, fit

WIDTHS = (0.25, 0.5, 1.0)
WEAK = Cohort(4, (0.5, 0.25))


@pytest.fixture(scope="module")
def federation():
    return data.digits(clients=5, validation=150)


@pytest.fixture(scope="module")
def task(federation):
    module = models.small_cnn(federation.shape, federation.classes, widths=(8, 8), pool=1)
    return tasks.classification(module, shape=federation.shape)


def run(task, federation, method=algorithms.heterofl, rounds=4, cohort=WEAK, **more):
    more.setdefault("evaluate", Evaluate(every=2, served=WIDTHS, average=0.5))
    return fit(method(task, lr=0.3, steps=4, batch_size=16), task, federation, rounds=rounds, cohort=cohort, **more)


@dataclass(frozen=True)
class OtherTest:
    """The same federation whose test targets are all wrong by one."""

    whole: Any

    def __getattr__(self, name):
        return getattr(self.whole, name)

    @property
    def test(self):
        test = self.whole.test
        return test._replace(y=(test.y + 1) % 10)


def test_the_served_width_is_the_best_on_validation_data_and_the_test_set_does_not_matter(task, federation):
    rows = run(task, federation).metrics
    other = run(task, OtherTest(federation)).metrics
    evaluated = [(a, b) for a, b in zip(rows, other, strict=True) if "served_width" in a]
    assert len(evaluated) == 2
    for row, wrong in evaluated:
        assert row["served_width"] == wrong["served_width"]
        assert row["test_served_accuracy"] != wrong["test_served_accuracy"]
        assert row["validation_served_accuracy"] >= row["validation_accuracy"]


def test_a_width_whose_figure_is_no_number_is_not_served(task):
    figures = {1.0: math.nan, 0.5: 0.2, 0.25: 0.3}
    assert _best(task, {width: {"accuracy": figure} for width, figure in figures.items()}) == 0.25
    assert _best(task, {width: {"loss": figure} for width, figure in figures.items()}) == 0.5


def test_served_metrics_are_those_of_the_slice(task, federation):
    done = run(task, federation, evaluate=Evaluate(served=WIDTHS))
    row = done.metrics[-1]
    method = algorithms.heterofl(task)
    own = {}
    for width in WIDTHS:
        part = method.narrower(method.init(done.params), done.params, width)
        assert width == 1 or part["head.weight"].shape[1] < done.params["head.weight"].shape[1]
        sets = {"validation": federation.validation, "test": federation.test}
        own[width] = {name: task.metrics(task.predict(part, each.all().x), each.y) for name, each in sets.items()}
    best = max(reversed(WIDTHS), key=lambda width: own[width]["validation"]["accuracy"])
    assert row["served_width"] == best
    assert row["test_served_accuracy"] == own[best]["test"]["accuracy"]
    assert done.summary["metrics"]["served_accuracy"]["last"] == row["test_served_accuracy"]
    assert done.summary["metrics"]["served_loss"]["best"] == row["test_served_loss"]


def test_a_method_without_sub_models_serves_the_whole_model(task, federation):
    row = run(task, federation, algorithms.fedavg, cohort=Cohort()).metrics[-1]
    assert row["served_width"] == 1
    assert row["test_served_accuracy"] == row["test_accuracy"]


def zerofl(task, served=(1.0, 0.5, 0.1), **more):
    return algorithms.zerofl(task, density=1.0, scale="params", average="sent", served=served, **more)


def test_the_served_density_is_the_best_on_validation_data(task, federation):
    sets = {"validation": federation.validation, "test": federation.test}
    done = run(task, federation, zerofl, evaluate=Evaluate(every=1, served=WIDTHS, average=0.5), rounds=3)
    own = {}
    for share in (1.0, 0.5, 0.1):
        part = dict(done.params)
        for name in [name for name, each in part.items() if each.dim() > 1]:
            flat = part[name].abs().flatten()
            least = flat.sort(descending=True).values[round(share * len(flat)) - 1]
            part[name] = torch.where(part[name].abs() >= least, part[name], 0.0)
        own[share] = {name: task.metrics(task.predict(part, each.all().x), each.y) for name, each in sets.items()}
    row = done.metrics[-1]
    best = max(own, key=lambda share: own[share]["validation"]["accuracy"])
    assert (row["served_width"], row["served_density"]) == (1, best)
    assert row["test_served_accuracy"] == own[best]["test"]["accuracy"]
    assert row["validation_accuracy"] == own[1.0]["validation"]["accuracy"]
    assert row["average_served_density"] in own
    other = run(task, OtherTest(federation), zerofl, evaluate=Evaluate(every=1, served=WIDTHS), rounds=3).metrics
    assert [each["served_density"] for each in other] == [each["served_density"] for each in done.metrics]


class Direct:
    """Predicts, and is no engine."""

    def __init__(self, task, fleet):
        self.task, self.fleet = task, fleet

    def predict(self, params, split):
        return self.task.predict(params, getattr(self.fleet, split).all().x)


@pytest.mark.parametrize("at", [1.0, 0.5, 0.1])
def test_the_better_density_is_served_wherever_it_is(task, federation, at):
    bad = {name: torch.zeros_like(part) for name, part in task.init().items()}
    good = run(task, federation, algorithms.fedavg, cohort=Cohort(), rounds=3).params
    sparse = Densities((1.0, 0.5, 0.1), lambda params, share: good if share == at else bad)
    judge = Judge(task, federation, Direct(task, federation), Evaluate(served=WIDTHS))
    row = judged(judge, good if at == 1 else bad, lambda width: bad, sparse=sparse)
    assert (row["served_density"], row["served_width"]) == (at, 1.0)
    test = federation.test
    assert row["test_served_accuracy"] == task.metrics(task.predict(good, test.all().x), test.y)["accuracy"]
    assert "served_density" not in judged(judge._replace(options=Evaluate()), good, lambda width: bad, sparse=sparse)


def test_one_density_is_served_as_it_is(task, federation):
    row = run(task, federation, lambda task, **local: zerofl(task, 0.5, **local), rounds=2).metrics[-1]
    assert "served_density" not in row
    assert row["served_width"] == 1
    assert row["test_served_accuracy"] == row["test_accuracy"]


@pytest.mark.parametrize(("served", "told"), [
    ([], "served must name a share or more (got none)"),
    ([1.0, 0.0], "served must be > 0 and <= 1 (got 0.0)"),
    (1.5, "served must be > 0 and <= 1 (got 1.5)"),
    ("dense", "served must be a number > 0 and <= 1 (got 'dense')"),
])  # fmt: skip
def test_densities_that_cannot_be(task, served, told):
    with pytest.raises(FedSepError, match=re.escape(f"zerofl: {told}")):
        zerofl(task, served)


def test_without_validation_data_no_width_can_be_chosen(task, federation):
    bare = replace(federation, dealt=(federation.dealt[0], None, federation.dealt[2]))
    with pytest.raises(FedSepError, match=r"evaluate\.served needs validation data"):
        run(task, bare)
    run(task, bare, rounds=1, evaluate=Evaluate(average=0.5))


def test_the_average_is_exponential():
    average = None
    for value in (1.0, 2.0, 4.0):
        average = averaged(average, {"w": torch.tensor([value])}, 0.75)
    assert average["w"].item() == pytest.approx(0.75 * (0.75 * 1 + 0.25 * 2) + 0.25 * 4)


def test_the_average_goes_on_through_a_resume(task, federation, tmp_path):
    whole = run(task, federation)
    assert whole.metrics[-1]["test_average_loss"] != whole.metrics[-1]["test_loss"]
    run(task, federation, rounds=2, out=tmp_path, checkpoint=Checkpoint(every=1))
    resumed = run(task, federation, out=tmp_path, resume=True)
    for name in ("test_average_loss", "test_average_served_loss", "average_served_width", "test_loss"):
        assert resumed.metrics[-1][name] == whole.metrics[-1][name]
