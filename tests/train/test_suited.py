"""Methods that do not suit their clients are refused before any work; static statistics in evaluation."""

import pytest
import torch

from fedsep import algorithms, data, models, tasks
from fedsep.calibrating import batches
from fedsep.core import FedSepError
from fedsep.models.calibration import calibrated
from fedsep.serving import of_fleet
from fedsep.train import Cohort, Evaluate, fit


@pytest.fixture(scope="module")
def federation():
    return data.digits(clients=7, validation=100)


def task_of(federation, norm="static", groups=1):
    module = models.resnet(federation.shape, federation.classes, blocks=(1,), width=4, norm=norm, groups=groups)
    return tasks.classification(module, shape=federation.shape)


def ran(federation, task, method=algorithms.heterofl, evaluate=Evaluate(), capabilities=(1.0, 0.5), **local):
    made = method(task, **{"steps": 1, "batch_size": 16, **local})
    return fit(made, task, federation, rounds=1, cohort=Cohort(2, capabilities), evaluate=evaluate)


@pytest.mark.parametrize("batch_size", [1, "left over"])
@pytest.mark.parametrize("method", [algorithms.fedavg, algorithms.heterofl, algorithms.fjord])
def test_a_minibatch_of_one_under_static_normalisation_is_refused(federation, batch_size, method):
    size = federation.shard(0).train.size
    with pytest.raises(FedSepError, match=r"batch_size must leave no minibatch of one.*client \d has"):
        ran(federation, task_of(federation), method, batch_size=size - 1 if batch_size == "left over" else 1)
    ran(federation, task_of(federation, "group"), method, batch_size=1)


def test_a_width_that_breaks_group_normalisation_is_refused(federation):
    task = task_of(federation, "group", groups=2)
    with pytest.raises(FedSepError, match=r"norm1.* has 2 groups, which do not divide the 1 channels of 4"):
        ran(federation, task, capabilities=(1.0, 0.25))
    ran(federation, task, capabilities=(1.0, 0.5))
    ran(federation, task, algorithms.exclude, capabilities=(1.0, 0.25))  # the weak ones hold nothing
    ran(federation, task, algorithms.fedavg, capabilities=(1.0, 0.25))


@pytest.mark.parametrize("capability", [0.0, 1.5, float("nan"), -1.0])
def test_a_capability_that_is_none_is_refused(federation, capability):
    with pytest.raises(FedSepError, match=r"cohort.capabilities must be"):
        ran(federation, task_of(federation), capabilities=(1.0, capability))


def test_static_statistics_are_measured_on_training_data_of_all_clients(federation):
    task = task_of(federation)
    run = ran(federation, task, evaluate=Evaluate(calibration=300))
    params = calibrated(task.model, run.params, of_fleet(federation, 300))
    accuracy = task.metrics(task.predict(params, federation.test.all().x), federation.test.y)
    assert run.metrics[-1]["test_loss"] == pytest.approx(accuracy["loss"])
    other = ran(federation, task, evaluate=Evaluate(statistics="testbatch"))
    assert other.metrics[-1]["test_loss"] != run.metrics[-1]["test_loss"]
    assert all(torch.equal(run.params[name], other.params[name]) for name in run.params)
    assert run.params.keys() == task.init().keys()


def test_calibration_takes_as_many_from_each_client_in_batches_of_about_one_size(federation):
    assert sum(len(x) for x in of_fleet(federation, 300)) == 301  # 43 of each of 7
    assert [len(x) for x in batches(torch.zeros(1300, 1))] == [434, 433, 433]
    assert len(batches(torch.zeros(30, 1))) == 1
    few = of_fleet(federation, 3)
    assert sum(len(x) for x in few) == 4  # every second client


def test_an_ensemble_is_calibrated_block_by_block(federation):
    task = task_of(federation)
    run = ran(federation, task, algorithms.splitmix, blocks=2, evaluate=Evaluate(calibration=300))
    own = algorithms.splitmix(task, blocks=2).task
    params = own.calibrated(run.params, of_fleet(federation, 300))
    assert any(name.startswith("1.") and name.endswith(".variance") for name in params)
    loss = task.metrics(own.predict(params, federation.test.all().x), federation.test.y)["loss"]
    assert run.metrics[-1]["test_loss"] == pytest.approx(loss)


def test_local_models_are_evaluated_with_statistics_of_their_own_data(federation):
    task = task_of(federation)
    run = ran(federation, task, evaluate=Evaluate(clients=True))
    assert 0 <= run.metrics[-1]["client_accuracy_after"] <= 1
