from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fedsep.core import FedSepError, Samples
from fedsep.models import cnn, linear, mlp
from fedsep.tasks import binary, check_fit, classification, regression


def refusal(task, x, y):
    with pytest.raises(FedSepError) as caught:
        check_fit(task, Samples(x, y))
    return str(caught.value)


IMAGES = torch.randint(0, 256, (12, 1, 16, 16), dtype=torch.uint8)
ROWS = torch.randn(12, 4)


@pytest.mark.parametrize(
    ("task", "x", "y"),
    [
        (classification(cnn((1, 16, 16), 10, width=2)), IMAGES, torch.arange(12) % 10),
        (classification(mlp((4,), 5)), ROWS, torch.arange(12, dtype=torch.uint8) % 3),
        (binary(linear((4,), 1)), ROWS, torch.arange(12) % 2),
        (binary(linear((4,), 2)), ROWS, torch.arange(12) % 2 == 0),
        (binary(linear((4,), 1)), ROWS, (torch.arange(12) % 2).double()[:, None]),
        (regression(linear((4,), 1)), ROWS, torch.randn(12)),
        (regression(linear((4,), 3)), ROWS, torch.randn(12, 3)),
        (classification(mlp((4,), 5)), ROWS[:1], torch.zeros(1, dtype=torch.int64)),
    ],
)
def test_what_fits_is_accepted_and_randomness_left_alone(task, x, y):
    before = torch.get_rng_state()
    check_fit(task, Samples(x, y))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("task", "y", "says"),
    [
        (classification(mlp((4,), 10)), torch.arange(12) + 88, ["gives 10 outputs", "100 classes", "with 100 outputs"]),
        (classification(mlp((4,), 10)), torch.arange(12) % 11, ["gives 10 outputs", "11 classes"]),
        (classification(mlp((4,), 10)), torch.arange(12) - 1, ["lowest is -1"]),
        (classification(mlp((4,), 10)), torch.rand(12), ["whole numbers", "tasks.regression"]),
        (classification(mlp((4,), 10)), torch.eye(12, dtype=torch.int64), ["(12, 12)", "argmax(1)"]),
        (classification(mlp((4,), 1)), torch.arange(12) - 1, ["tasks.binary", "lowest is -1"]),
        (binary(mlp((4,), 3)), torch.arange(12), ["1 or 2 outputs", "0, 1, 2, 3, 4, ...", "tasks.classification"]),
        (binary(mlp((4,), 1)), torch.tensor([-1, 1] * 6), ["must be 0 and 1, and are -1, 1"]),
        (binary(mlp((4,), 1)), torch.zeros(12, 2), ["(12, 2)"]),
        (regression(mlp((4,), 3)), torch.rand(12), ["gives 3 numbers", "1 target:", "with 1 output"]),
        (regression(mlp((4,), 1)), torch.rand(12, 2), ["gives 1 number", "2 targets", "with 2 outputs"]),
    ],
)
def test_targets_that_do_not_fit_are_refused(task, y, says):
    text = refusal(task, ROWS, y)
    for words in says:
        assert words in text


def test_inputs_that_do_not_fit_name_the_layer_and_the_shape():
    text = refusal(classification(mlp((64,), 10)), torch.randn(12, 1, 28, 28), torch.arange(12) % 10)
    assert "(1, 28, 28)" in text
    assert "layer1 (Linear)" in text
    assert "\n" not in text


def test_no_examples_are_refused():
    assert "no examples" in refusal(classification(mlp((4,), 2)), ROWS[:0], torch.arange(0))


class Wrong(nn.Module):
    def __init__(self, wrong):
        super().__init__()
        self.layer, self.wrong = nn.Linear(4, 3), wrong

    def forward(self, x):
        return self.wrong(self.layer(x))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda y: (y, y), "one tensor, and gives a tuple"),
        (lambda y: y.mean(0), r"one row of outputs for each of 4 examples"),
        (lambda y: y[..., None], "one score per class"),
        (lambda y: y.detach(), "does not depend on the parameters"),
        (lambda y: y / 0, "is nan"),
        (lambda y: F.dropout(y, 0.5), "random"),
    ],
)
def test_models_that_give_something_else_are_refused(wrong, says):
    text = refusal(classification(Wrong(wrong)), ROWS, torch.arange(12) % 3)
    assert says in text


def test_missing_values_are_named_as_the_likely_cause():
    text = refusal(regression(linear((4,), 1)), ROWS * float("nan"), torch.rand(12))
    assert "missing values" in text


class Own:
    """A task of the user's own, with the protocol's methods only."""

    def init(self):
        return {"layer.w": torch.ones(4)}

    def predict(self, params, x):
        return x @ params["layer.w"][:, None]

    def criterion(self, outputs, targets):
        return (outputs[:, 0] - targets).abs()

    def loss(self, params, batch):
        return self.criterion(self.predict(params, batch.x), batch.y)

    def metrics(self, outputs, targets):
        return {"loss": float(self.criterion(outputs, targets).mean())}


def test_a_task_of_ones_own_is_checked_by_what_it_has():
    assert "must be a scalar" in refusal(Own(), ROWS, torch.rand(12))
    assert "does not take the data's inputs" in refusal(Own(), torch.randn(12, 3), torch.rand(12))
