"""The summary's figures and the identity of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import pytest
import torch
from train.toys import FedAvg, Fleet, Task

from fedsep.identity import describe, differences, identify
from fedsep.options import Checkpoint, Evaluate
from fedsep.summary import summarise

ROWS = [
    {"round": 1, "train_loss": 3.0},
    {"round": 2, "validation_accuracy": 0.5, "validation_loss": 3.0, "test_accuracy": 0.4, "test_loss": 2.0},
    {"round": 4, "validation_accuracy": 0.7, "validation_loss": 2.0, "test_accuracy": 0.6, "test_loss": 1.0},
    {"round": 6, "validation_accuracy": 0.6, "validation_loss": 1.0, "test_accuracy": 0.8, "test_loss": None},
]


def test_figures():
    found = summarise(ROWS, 2, {})
    assert list(found) == ["accuracy", "loss", "validation_accuracy", "validation_loss"]
    assert found["accuracy"] == {"last": 0.8, "best": 0.8, "mean_last": pytest.approx(0.7), "selected": 0.6}
    assert found["loss"] == {"last": 1.0, "best": 1.0, "mean_last": 1.5, "selected": 1.0}
    # Of each metric the round that is best by itself on validation data; of a client's by the first there.
    more = [*ROWS[:3], {**ROWS[3], "test_loss": 0.5}]
    assert summarise(more, 2, {})["loss"]["selected"] == 0.5
    own = [{**row, "client_accuracy_after": number} for number, row in enumerate(more)]
    assert summarise(own, 2, {})["client_accuracy_after"]["selected"] == 2
    assert found["validation_accuracy"]["best"] == 0.7
    assert found["validation_loss"]["best"] == 1.0


def test_the_task_says_what_is_better():
    found = summarise(ROWS, 10, {"accuracy": False})
    assert found["accuracy"]["best"] == 0.4
    assert found["accuracy"]["selected"] == 0.4


def test_nothing_to_sum_up():
    assert summarise(ROWS[:1], 10, {}) == {}
    assert summarise([{"round": 1, "test_auc": None}], 10, {})["auc"]["best"] is None


def test_clients_metrics():
    rows = [{"round": 1, "client_accuracy_before": 0.3, "client_accuracy_after": 0.4}]
    assert summarise(rows, 1, {})["client_accuracy_after"]["best"] == 0.4


@pytest.mark.parametrize(
    ("evaluate", "wanted"),
    [
        (Evaluate(every=3), [3, 6, 9, 10]),
        (Evaluate(every=None), [10]),
        (Evaluate(rounds=(1, 5)), [1, 5, 10]),
        (Evaluate(every=2, rounds=()), [10]),
    ],
)
def test_when_to_evaluate(evaluate, wanted):
    assert [round for round in range(1, 11) if evaluate.due(round, 10)] == wanted


def test_when_to_save():
    assert [round for round in range(1, 8) if Checkpoint(every=3).due(round, 0.0)] == [3, 6]
    assert Checkpoint(every=None, seconds=5).due(1, 5.0)
    assert not Checkpoint(every=None, seconds=5).due(1, 4.9)


@dataclass(frozen=True)
class Method:
    lr: float
    model: torch.nn.Module
    call: object
    table: torch.Tensor


def make(lr=0.1, width=3):
    return Method(lr, torch.nn.Linear(width, 2), partial(max, default=1), torch.ones(width))


def test_equal_makes_are_equal_and_others_are_told():
    assert describe(make()) == describe(make())
    assert differences(describe(make()), describe(make(lr=0.2))) == ['lr: "0.1" there, "0.2" here']
    assert len(differences(describe(make()), describe(make(width=4)))) == 2


def test_no_address_in_a_description():
    class Anything:
        pass

    assert describe([Anything(), lambda: 0]) == describe([Anything(), lambda: 0])


def test_a_cache_is_no_part_of_what_a_method_is():
    @dataclass(frozen=True)
    class Cached:
        lr: float
        _calls: list
        memo: list = field(default_factory=list, compare=False)

    assert describe(Cached(0.1, [], [1])) == describe(Cached(0.1, [2], []))


def test_a_resumed_run_may_change_what_no_round_depends_on():
    def identity(recipe):
        task = Task()
        fields = {"algorithm": FedAvg(), "params": task.init(), "fleet": Fleet(), "cohort": None, "seed": 0}
        return identify(**fields, states="memory", recipe=recipe)

    one = {"rounds": 3, "engine": {"use": "a"}, "data": {"use": "b", "data_dir": "/x"}}
    two = {"rounds": 9, "engine": {"use": "c"}, "data": {"use": "b", "data_dir": "/y"}}
    assert not differences(identity(one), identity(two))
    assert differences(identity(one), identity({"data": {"use": "d"}})) == ['recipe.data.use: "b" there, "d" here']
