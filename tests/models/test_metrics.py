from __future__ import annotations

import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from fedsep.core import Batch, Task
from fedsep.models import linear, logistic
from fedsep.report.spread import higher_is_better
from fedsep.tasks import binary, classification, language, regression
from fedsep.tasks.auc import auc

TASKS = [
    pytest.param(classification, 3, lambda n: torch.randint(0, 3, (n,)), id="classification"),
    pytest.param(binary, 1, lambda n: torch.randint(0, 2, (n,)), id="binary"),
    pytest.param(binary, 2, lambda n: torch.randint(0, 2, (n,)), id="binary of two outputs"),
    pytest.param(regression, 2, lambda n: torch.randn(n, 2), id="regression"),
]


@pytest.mark.parametrize(("make", "outputs", "targets"), TASKS)
def test_loss_is_the_criterion_of_predictions_and_the_metric_called_loss(make, outputs, targets):
    task: Task = make(linear((4,), outputs))
    params, batch = task.init(), Batch(torch.randn(9, 4), targets(9))
    predictions = task.predict(params, batch.x)
    loss = task.loss(params, batch)
    assert loss.shape == ()
    assert torch.equal(loss, task.criterion(predictions, batch.y))
    assert task.metrics(predictions, batch.y)["loss"] == pytest.approx(float(loss), rel=1e-12)


@pytest.mark.parametrize("make", [classification, binary, regression, language])
def test_reports_know_each_metrics_direction_by_its_name(make):
    directions = make(linear((4,), 1)).higher_is_better
    assert {name: higher_is_better(name) for name in directions} == directions


@pytest.mark.parametrize(("make", "outputs", "targets"), TASKS)
def test_metrics_are_plain_numbers_each_with_a_direction(make, outputs, targets):
    task = make(linear((4,), outputs))
    figures = task.metrics(torch.randn(9, outputs), targets(9))
    assert list(figures) == list(task.higher_is_better)
    assert next(iter(task.higher_is_better.values()))
    assert all(type(value) is float for value in figures.values())


@pytest.mark.parametrize(("make", "outputs", "targets"), TASKS)
def test_no_examples_give_nan(make, outputs, targets):
    figures = make(linear((4,), outputs)).metrics(torch.randn(0, outputs), targets(0))
    assert all(math.isnan(value) for value in figures.values())


def test_classification_against_its_definition():
    task = classification(logistic((4,), 3))
    outputs = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [1.0, 0.0, 5.0], [1.0, 0.0, 0.0]])
    targets = torch.tensor([0, 1, 0, 2])
    expected = -torch.log_softmax(outputs, 1)[torch.arange(4), targets].mean()
    assert task.metrics(outputs, targets) == {"accuracy": 0.5, "loss": pytest.approx(float(expected))}


@pytest.mark.parametrize("kind", [torch.uint8, torch.int32])
def test_labels_may_be_any_integers(kind):
    task = classification(logistic((4,), 3))
    x, y = torch.randn(5, 4), torch.tensor([0, 2, 1, 1, 0])
    assert torch.equal(task.loss(task.init(), Batch(x, y.to(kind))), task.loss(task.init(), Batch(x, y)))


def test_binary_of_two_outputs_is_classification():
    model, batch = logistic((4,), 2), Batch(torch.randn(9, 4), torch.randint(0, 2, (9,)))
    two, many = binary(model), classification(model)
    torch.testing.assert_close(two.loss(two.init(), batch), many.loss(many.init(), batch))
    outputs = two.predict(two.init(), batch.x)
    assert two.metrics(outputs, batch.y)["accuracy"] == many.metrics(outputs, batch.y)["accuracy"]


def test_binary_of_one_output_reads_log_odds():
    task = binary(linear((4,), 1))
    logits, targets = torch.tensor([[1.0], [-2.0], [0.5]]), torch.tensor([1, 0, 0])
    p = torch.sigmoid(logits[:, 0])
    expected = -(torch.log(p[0]) + torch.log(1 - p[1]) + torch.log(1 - p[2])) / 3
    figures = task.metrics(logits, targets)
    assert figures == {"auc": 1.0, "accuracy": pytest.approx(2 / 3), "loss": pytest.approx(float(expected))}
    assert figures == task.metrics(logits[:, 0], targets[:, None].double())


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40))
def test_auc_equals_scikit_learn_with_ties(pairs):
    metrics = pytest.importorskip("sklearn.metrics")
    scores, positive = (torch.tensor(part) for part in zip(*pairs, strict=True))
    found = auc(scores.double() / 3, positive)
    if positive.all() or not positive.any():
        assert math.isnan(found)
    else:
        assert found == pytest.approx(metrics.roc_auc_score(positive.numpy(), scores.numpy()), rel=1e-14)


def test_auc_counts_pairs():
    scores, positive = torch.randn(200).mul(4).round(), torch.rand(200) < 0.3
    a, b = scores[positive][:, None], scores[~positive]
    assert auc(scores, positive) == pytest.approx(float(((a > b) + 0.5 * (a == b)).mean()), rel=1e-14)


def test_auc_is_one_half_without_information_and_unknown_with_nan():
    assert auc(torch.zeros(7), torch.arange(7) < 3) == 0.5
    assert math.isnan(auc(torch.tensor([0.0, math.nan, 1.0]), torch.tensor([True, False, True])))
    assert auc(torch.tensor([-math.inf, math.inf]), torch.tensor([False, True])) == 1.0


def test_auc_of_many_equal_pairs_does_not_overflow():
    scores, positive = torch.zeros(200_000), torch.arange(200_000) % 2 == 0
    assert auc(scores, positive) == 0.5


@pytest.mark.parametrize("outputs", [1, 3])
def test_regression_equals_scikit_learn(outputs):
    metrics = pytest.importorskip("sklearn.metrics")
    task = regression(linear((4,), outputs))
    found, wanted = torch.randn(30, outputs), torch.randn(30, outputs)
    figures = task.metrics(found, wanted)
    assert figures["r2"] == pytest.approx(metrics.r2_score(wanted, found))
    assert figures["mse"] == figures["loss"] == pytest.approx(metrics.mean_squared_error(wanted, found))
    assert figures["mae"] == pytest.approx(metrics.mean_absolute_error(wanted, found))


def test_r2_of_equal_targets_is_scikit_learns():
    metrics = pytest.importorskip("sklearn.metrics")
    task = regression(linear((4,), 2))
    wanted = torch.tensor([[1.0, 2.0], [1.0, 3.0], [1.0, 5.0]])
    for found in (wanted, wanted + 1, wanted + torch.tensor([0.0, 1.0])):
        assert task.metrics(found, wanted)["r2"] == pytest.approx(metrics.r2_score(wanted, found))


def test_r2_of_one_example_is_unknown():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = regression(linear((4,), 1)).metrics(torch.ones(1, 1), torch.zeros(1))
    assert math.isnan(figures["r2"])
    assert figures["mse"] == 1.0


def test_regression_pairs_a_column_of_outputs_with_a_row_of_targets():
    task = regression(linear((4,), 1))
    batch = Batch(torch.randn(6, 4), torch.arange(6))
    outputs = task.predict(task.init(), batch.x)
    expected = F.mse_loss(outputs[:, 0], batch.y.double())
    torch.testing.assert_close(task.loss(task.init(), batch), expected)
    assert task.metrics(outputs, batch.y)["mse"] == pytest.approx(float(expected))
