"""Masks, densities, labels and models of a zoo survive an interruption, lost replies, and another engine."""

import functools

import pytest
from train.toys import At, contents, interrupt

from fedsep import algorithms, data, models, tasks
from fedsep.cohort import Cohort
from fedsep.engines import sequential, workers
from fedsep.train import Checkpoint, Evaluate, Interrupted, fit


@functools.cache
def federation():
    return data.digits(clients=6, partition=data.classes(5), public=40)


LOCAL = {"lr": 0.1, "steps": 2, "batch_size": 16}
SETTINGS = {"rounds": 5, "seed": 3, "checkpoint": Checkpoint(every=1), "evaluate": Evaluate(every=5),
            "cohort": Cohort(3, (1.0, 0.5), draw="dynamic")}  # fmt: skip


def net(*hidden):
    return models.mlp(federation().shape, federation().classes, hidden=hidden)


def task():
    return tasks.classification(net(8, 4), shape=federation().shape)


METHODS = {
    "zerofl": lambda: algorithms.zerofl(task(), density=0.8, scale="params", **LOCAL),
    "feddst": lambda: algorithms.feddst(task(), density=0.5, readjust=0.3, every=2, scale="width", **LOCAL),
    "feddst of one density": lambda: algorithms.feddst(task(), density=0.5, readjust=0.3, every=3, **LOCAL),
    "flash": lambda: algorithms.flash(task(), density=0.4, first_epochs=1, scale="width", **LOCAL),
    "feddf": lambda: algorithms.feddf(
        task(), public=federation().public, zoo={0.5: net(4)}, server_steps=2, server_batch_size=20, **LOCAL
    ),
    "dsfl": lambda: algorithms.dsfl(
        task(), public=federation().public, zoo={0.5: net(4)}, per_round=30, distil_steps=2, **LOCAL
    ),
    "fedet": lambda: algorithms.fedet(
        task(), public=federation().public, zoo={0.5: net(5, 4)}, server_steps=2, server_batch_size=20, **LOCAL
    ),
}


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_was_interrupted_is_as_one_that_was_not(method, tmp_path):
    make = METHODS[method]
    whole = fit(make(), task(), federation(), out=tmp_path / "whole", **SETTINGS)
    other = tmp_path / "other"
    for number in (1, 3):
        with pytest.raises(Interrupted):
            fit(make(), task(), federation(), out=other, resume=True, watch=At(number, interrupt), **SETTINGS)
    again = fit(make(), task(), federation(), out=other, resume=True, **SETTINGS)
    assert contents(again.folder) == contents(whole.folder)


@pytest.mark.parametrize("method", ["feddst", "flash", "dsfl"])
def test_two_processes_give_the_bits_of_one(method, tmp_path):
    runs = [fit(METHODS[method](), task(), federation(), out=tmp_path / str(n), engine=engine, **SETTINGS)
            for n, engine in enumerate((sequential(), workers(processes=2)))]  # fmt: skip
    assert contents(runs[0].folder) == contents(runs[1].folder)
