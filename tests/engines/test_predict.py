"""Evaluation in passes of a fixed number of rows, which keeps no more than the outputs."""

from __future__ import annotations

import weakref

import pytest
import torch

from fedsep import random
from fedsep.core import FedSepError, Samples
from fedsep.engines.client import PREDICT_ROWS, predict


class Doubled:
    """Two outputs an example; notes who is still there when a pass begins."""

    def __init__(self):
        self.made, self.left = weakref.WeakSet(), []

    def predict(self, params, x):
        self.left.append(len(self.made))
        self.made.update([x, outputs := 2 * x[:, :2]])
        return outputs


@pytest.mark.parametrize("size", [1, PREDICT_ROWS, 4 * PREDICT_ROWS + 7])
def test_outputs_are_those_of_all_rows_and_no_pass_is_kept(size):
    x, task = random.normal(random.key(1), size, 3), Doubled()
    assert torch.equal(predict(task, {}, Samples(x, x, torch.zeros(()))), 2 * x[:, :2])
    assert max(task.left) <= 2  # of the last pass, until this one's are put in their place


def test_one_row_for_all_is_refused():
    class Mean:
        def predict(self, params, x):
            return x.mean(0, keepdim=True)

    with pytest.raises(FedSepError, match=r"must give 7 rows for 7 examples \(got \(1, 3\)\)"):
        predict(Mean(), {}, Samples(torch.ones(7, 3), torch.ones(7)))
