"""Rankings survive an interruption, lost replies, and another engine; the ledger shows who was sent what."""

import functools
import json

import pytest
import torch
from train.toys import At, contents, interrupt

from fedsep import algorithms, data, models, tasks, tree
from fedsep.cohort import Cohort
from fedsep.engines import sequential, workers
from fedsep.engines.faults import Faults, faulty
from fedsep.models.units import kept
from fedsep.train import Checkpoint, Evaluate, Interrupted, fit


@functools.cache
def federation():
    return data.digits(clients=6, partition=data.classes(5), validation=60)


def task():
    return tasks.classification(models.mlp(federation().shape, 10, hidden=(8, 6)), shape=federation().shape)


LOCAL = {"lr": 0.1, "steps": 2, "batch_size": 16, "images": 30}
SETTINGS = {"rounds": 5, "seed": 3, "checkpoint": Checkpoint(every=1), "cohort": Cohort(3, (1.0, 0.5), draw="dynamic"),
            "evaluate": Evaluate(every=5, served=(1.0, 0.5), average=0.5, clients=True)}  # fmt: skip
METHODS = {
    "mask": lambda: algorithms.fedsep_mask(task(), **LOCAL),
    "mask by both terms": lambda: algorithms.fedsep_mask(task(), terms="both", **LOCAL),
    "mask on what is held": lambda: algorithms.fedsep_mask(
        task(), scored_on="held", rolling=0.5, refresh_every=3, scores="activation", **LOCAL),
    "shared": lambda: algorithms.fedsep_shared(task(), reduce="importance", memory=0.5, **LOCAL),
    "clusters": lambda: algorithms.fedsep_shared(
        task(), scored_on="held", clusters=2, refresh_every=3, rolling=0.3, **LOCAL),
    "kept_random": lambda: algorithms.kept_random(task(), lr=0.1, steps=2, batch_size=16),
}  # fmt: skip


def lossy(engine=None):
    return faulty(engine or sequential(), Faults(drop=0.3, corrupt=0.1, seed=2))


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_was_interrupted_is_as_one_that_was_not(method, tmp_path):
    make = METHODS[method]
    whole = fit(make(), task(), federation(), out=tmp_path / "whole", engine=lossy(), **SETTINGS)
    other = tmp_path / "other"
    for number in (1, 3):
        with pytest.raises(Interrupted):
            fit(make(), task(), federation(), out=other, resume=True, watch=At(number, interrupt), engine=lossy(),
                **SETTINGS)  # fmt: skip
    again = fit(make(), task(), federation(), out=other, resume=True, engine=lossy(), **SETTINGS)
    assert contents(again.folder) == contents(whole.folder)


@pytest.mark.parametrize("method", ["mask", "clusters"])
def test_two_processes_give_the_bits_of_one(method, tmp_path):
    runs = [fit(METHODS[method](), task(), federation(), out=tmp_path / str(n), engine=lossy(engine), **SETTINGS)
            for n, engine in enumerate((sequential(), workers(processes=2)))]  # fmt: skip
    assert contents(runs[0].folder) == contents(runs[1].folder)


def rows_of(folder):
    return [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("states", ["memory", "disk"])
def test_the_ledger_has_the_whole_model_at_a_refresh_and_the_sub_model_otherwise(states, tmp_path):
    """By a count of each client's accepted replies; a lost refresh is repeated."""
    method = algorithms.fedsep_mask(task(), own_classes=False, **LOCAL)
    settings = {**SETTINGS, "rounds": 12, "cohort": Cohort(4, (0.5,))}
    done = fit(method, task(), federation(), out=tmp_path, engine=lossy(), states=states, **settings)
    params = done.params
    whole, part = (4 * tree.size(each) for each in (params, method.view.part.units.cut(params, {
        group: torch.arange(kept(n, 0.5)) for group, n in method.view.part.units.sizes.items()})))  # fmt: skip
    whole, part = (size * params["layer1.weight"].element_size() // 4 for size in (whole, part))
    since, met = dict.fromkeys(range(6)), {"again": 0, "whole": 0, "part": 0}
    rows = rows_of(done.folder)
    for row in rows:
        due = since[row["client"]] in (None, 2)
        if row["direction"] == "down":
            assert row["parts"] == {"model": whole if due else part}
            met["whole" if due else "part"] += 1
        elif row["accepted"]:
            sent = {"model": part, **({"report": 2 * (8 + 6) + 4} if due else {})}
            assert row["parts"] == sent
            since[row["client"]] = 1 if due else since[row["client"]] + 1
        if "failure" in row:
            met["again"] += due
    assert min(met.values()) > 0


def test_a_narrower_model_is_served_by_the_methods_own_ranking(tmp_path):
    method = METHODS["shared"]()
    row = fit(method, task(), federation(), **{**SETTINGS, "engine": sequential()}).metrics[-1]
    assert row["served_width"] in (1.0, 0.5)
    assert {"test_served_accuracy", "test_average_served_accuracy", "client_accuracy_after"} <= row.keys()
