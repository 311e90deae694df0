from __future__ import annotations

import math

import pytest
import torch

from fedsep import tasks
from fedsep.core import Batch, FedSepError, Samples
from fedsep.models import mlp, transformer

X = torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0]], dtype=torch.uint8)
Y = torch.tensor([[1, 2, 3, 0], [2, 1, 0, 3]], dtype=torch.uint8)


def task():
    return tasks.language(transformer((4,), 4, width=8, depth=1, heads=2))


def test_the_loss_is_the_mean_over_places():
    made = task()
    params = made.init()
    outputs = made.predict(params, X)
    own = -outputs.log_softmax(-1).gather(-1, Y.long()[..., None]).mean()
    torch.testing.assert_close(made.loss(params, Batch(X.double(), Y)), own)


def test_metrics_in_bits():
    made, outputs = task(), torch.zeros(2, 4, 4, dtype=torch.float64)
    outputs[..., 0] = 1e-9
    found = made.metrics(outputs, Y)
    assert list(found) == list(made.higher_is_better)
    assert found["bits_per_byte"] == pytest.approx(2)
    assert found["loss"] == pytest.approx(math.log(4))
    assert found["accuracy"] == 2 / 8
    assert all(math.isnan(value) for value in made.metrics(outputs[:0], Y[:0]).values())


def test_metrics_do_not_depend_on_how_many_are_scored_at_a_time(monkeypatch):
    import sys

    outputs = torch.randn(5, 4, 4, dtype=torch.float64)
    targets = torch.randint(4, (5, 4))
    whole = task().metrics(outputs, targets)
    monkeypatch.setattr(sys.modules["fedsep.tasks.language"], "_AT_ONCE", 2)
    assert task().metrics(outputs, targets) == pytest.approx(whole)


@pytest.mark.parametrize(
    ("module", "y", "said"),
    [
        (transformer((4,), 4, width=8, depth=1, heads=2), Y[:, 0], "targets must be one whole number at each place"),
        (transformer((4,), 4, width=8, depth=1, heads=2), Y.double(), "targets must be one whole number"),
        (mlp((4,), 4), Y, r"scores at each of 4 places, .*, and gives \(2, 4\): fedsep.models.transformer does"),
        (transformer((4,), 3, width=8, depth=1, heads=2), Y, "tells 3 symbols apart, and the data have symbols"),
    ],
)
def test_what_does_not_fit_is_told(module, y, said):
    x = X.double() if not hasattr(module, "embed") else X.clamp_max(2).double()
    with pytest.raises(FedSepError, match=said):
        tasks.check_fit(tasks.language(module), Samples(x, y))


def test_what_fits_is_taken():
    tasks.check_fit(task(), Samples(X, Y))
