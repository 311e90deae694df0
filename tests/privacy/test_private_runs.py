"""Private runs: what they tell of epsilon, what they keep, whom they invite, and which mistakes are found before."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from dataclasses import dataclass

import pytest
import torch
from train.toys import SETTINGS, At, Fleet, Lossy, Task, contents, interrupt, run

from fedsep import algorithms, wires
from fedsep.core import FedSepError
from fedsep.engines import vectorised, workers
from fedsep.privacy import Rounds, central, distributed, epsilon
from fedsep.train import Checkpoint, Cohort, Evaluate, Interrupted, Stop

pytest.importorskip("opacus", reason="private runs are accounted for by opacus: pip install 'fedsep[dp]'")

FLEET = Fleet(clients=20)
POISSON = Cohort(per_round=4, sampling="poisson")
PRIVATE = {**SETTINGS, "fleet": FLEET, "cohort": POISSON, "checkpoint": Checkpoint(every=None)}


def fedavg(**options):
    return algorithms.fedavg(Task(), weighting="uniform", steps=2, batch_size=4, lr=0.02, **options)


def quantised():
    return algorithms.fedsep_quantised(Task(), p=3, period=2, weighting="uniform", steps=2, batch_size=4, server_lr=1.0)


def privately(method=None, *, noise=1.0, secret=1, **options):
    return central(method or fedavg(), clip=0.5, noise=noise, replies=4, delta=1e-3, secret=secret, **options)


def shared(**options):
    return distributed(fedavg(), **{"clip": 0.5, "noise": 1.0, "replies": 4, "fewest": 3, "delta": 1e-3, **options})


def column(folder):
    return [json.loads(line)["epsilon"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_epsilon_of_poisson_cohorts_is_in_metrics_summary_and_notes(tmp_path):
    done = run(privately(), tmp_path, **PRIVATE)
    expected = [epsilon(Rounds("poisson", 0.2, 1.0, count), 1e-3) for count in range(1, 10)]
    assert column(done.folder) == expected
    assert expected == sorted(set(expected))
    told = done.summary["privacy"]
    assert (told["epsilon"], told["delta"], told["noise"], told["clip"]) == (expected[-1], 1e-3, 1.0, 0.5)
    assert told["neighbours"] == "fleets that differ in the presence of one client"
    first, second = done.summary["notes"]
    assert f"({expected[-1]:.3g}, 0.001)-differentially private" in first
    assert "does not cover the run's folder" in first
    assert "the constants by which inputs are normalised" in first
    assert "secret of the noise was given" in second
    assert len(run(privately(secret=None), None, **PRIVATE).summary["notes"]) == 1


@dataclass(frozen=True)
class Apart(Fleet):
    """No data but the clients' own."""

    validation, test = None, None


def test_where_data_are_the_clients_own_the_metrics_on_them_are_not_covered():
    told, apart = ({**PRIVATE, "rounds": 1, "fleet": fleet} for fleet in (FLEET, Apart(clients=20)))
    assert not any("are not covered either" in note for note in run(privately(), None, **told).summary["notes"])
    assert any("are not covered either" in note for note in run(privately(), None, **apart).summary["notes"])


def test_the_report_shows_the_guarantee(tmp_path):
    from fedsep.report import write_report

    run(privately(), tmp_path, **{**PRIVATE, "rounds": 2})
    page = write_report([tmp_path], tmp_path).read_text()
    assert "-differentially private between fleets that differ in the presence of one client" in page
    assert ">epsilon</th>" in page


@pytest.mark.parametrize(
    ("cohort", "draw", "rate"),
    [(Cohort(per_round=4), "without_replacement", 0.2), (Cohort(), "none", 1.0)],
    ids=["fixed", "everybody"],
)
def test_other_cohorts_have_the_bound_that_is_theirs(cohort, draw, rate):
    size = cohort.size(20)
    method = central(fedavg(), clip=0.5, noise=3.0, replies=size, delta=1e-3, secret=1)
    rows = run(method, None, **{**PRIVATE, "cohort": cohort}).metrics
    assert rows[-1]["epsilon"] == epsilon(Rounds(draw, rate, 3.0, 9), 1e-3)


def test_distributed_noise_costs_what_the_client_that_was_invited_most_often_paid(tmp_path):
    cohort = Cohort(per_round=4)
    settings = {**PRIVATE, "cohort": cohort, "stop": Stop(min_replies=3)}
    done = run(shared(secret=1), tmp_path, **settings)
    invited = Counter()
    for round, found in enumerate(column(done.folder)):
        invited.update(cohort.members(0, round, 20))
        assert found == epsilon(Rounds("none", 1.0, 1.0, max(invited.values())), 1e-3)
    assert any("secure aggregation" in note for note in done.summary["notes"])


METHODS = {"fedavg": privately, "quantised sketch": lambda: privately(quantised())}


@pytest.mark.parametrize("make", METHODS.values(), ids=METHODS.keys())
def test_interrupted_and_resumed_is_the_same_and_epsilon_goes_on(tmp_path, make):
    whole = contents(run(make(), tmp_path / "whole", **PRIVATE).folder)
    for at in (2, 5):
        with pytest.raises(Interrupted) as caught:
            run(make(), tmp_path / "cut", resume=True, watch=At(at, interrupt), **PRIVATE)
    run(make(), tmp_path / "cut", resume=True, **PRIVATE)
    assert contents(caught.value.folder) == whole


def test_a_run_with_a_secret_of_its_own_goes_on_with_it(tmp_path):
    with pytest.raises(Interrupted) as caught:
        run(privately(secret=None), tmp_path, watch=At(4, interrupt), **PRIVATE)
    folder = caught.value.folder
    first = sorted((folder / "checkpoint").glob("*/server.safetensors"))[-1].read_bytes()
    run(privately(secret=None), tmp_path, resume=True, **PRIVATE)
    last = sorted((folder / "checkpoint").glob("*/server.safetensors"))[-1].read_bytes()
    from fedsep import pack

    one, two = (pack.load(data).optimizer for data in (first, last))
    assert torch.equal(one.secret, two.secret)
    assert (int(one.round), int(two.round)) == (4, 9)


def test_every_round_is_kept_before_its_model_is_sent_and_only_the_owner_may_look(tmp_path):
    found = []

    def look(event):
        kept = sorted(path.name for path in (tmp_path / "run" / "seed0" / "checkpoint").glob("round-*"))
        found.append(int(kept[-1].removeprefix("round-")))

    folder = run(privately(), tmp_path, watch=look, **PRIVATE).folder
    assert found == list(range(1, 10))
    assert (folder / "checkpoint").stat().st_mode & 0o077 == 0


def invited(folder):
    rows = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    return [(row["round"], row["client"]) for row in rows if row["direction"] == "down"]


def test_cohorts_follow_from_the_secret_and_not_from_the_runs_seed(tmp_path):
    folders = [
        run(privately(secret=secret, seed=seed), tmp_path / str(n), **{**PRIVATE, "seed": run_seed, "rounds": 3}).folder
        for n, (secret, seed, run_seed) in enumerate([(1, 0, 0), (1, 0, 5), (2, 0, 0), (1, 3, 0)])
    ]
    drawn = [invited(folder) for folder in folders]
    assert drawn[0] == drawn[1]
    assert len({tuple(each) for each in drawn}) == 3
    public = [(n + 1, client) for n in range(3) for client in POISSON.members(0, n, 20)]
    assert drawn[0] != public


@pytest.mark.parametrize("engine", [workers(processes=2), vectorised()], ids=["workers", "vectorised"])
def test_empty_cohorts_and_rounds_without_replies_pass_on_every_engine(engine):
    """With one client expected of 20, every third cohort is empty; the model moves by noise all the same."""
    method = central(fedavg(), clip=0.5, noise=1.0, replies=1, delta=1e-3, secret=1)
    settings = {**PRIVATE, "cohort": Cohort(per_round=1, sampling="poisson"), "stop": Stop(patience=50), "rounds": 12}
    one, two = (run(method, None, **{**settings, **more}) for more in ({}, {"engine": engine}))
    assert [row["replies"] for row in one.metrics].count(0) > 1
    assert all(
        a["test_mse"] == pytest.approx(b["test_mse"])
        for a, b in zip(one.metrics, two.metrics, strict=True)
        if "test_mse" in a
    )
    assert one.metrics[-1]["epsilon"] == epsilon(Rounds("poisson", 0.05, 1.0, 12), 1e-3)


def test_lost_replies_change_neither_the_divisor_nor_epsilon():
    lost = Lossy(lambda round, client: round > 0)
    settings = {**PRIVATE, "stop": Stop(patience=50), "engine": lost}
    nobody, everybody = run(privately(), None, **settings), run(privately(), None, **PRIVATE)
    assert [row["epsilon"] for row in nobody.metrics] == [row["epsilon"] for row in everybody.metrics]
    assert not any(row["replies"] for row in nobody.metrics[1:])
    again = run(privately(), None, **settings)
    assert all(torch.equal(nobody.params[name], again.params[name]) for name in nobody.params)
    assert any((nobody.params[name] != 0).any() for name in nobody.params)


MISTAKES = {
    "another divisor": (lambda: privately(), {"cohort": Cohort(per_round=5)}, r"replies must be the cohort's size, 5"),
    "delta too large": (
        lambda: central(fedavg(), clip=1.0, noise=1.0, replies=4, delta=0.06),
        {},
        "delta must be well below 1 / clients, 0.05",
    ),
    "void by count": (
        lambda: privately(),
        {"stop": Stop(min_replies=2)},
        "stop.min_replies must be 1 with privacy.cen",
    ),
    "too few shares": (shared, {"cohort": Cohort(per_round=4)}, "stop.min_replies must be at least fewest, 3"),
    "poisson shares": (shared, {"stop": Stop(min_replies=3)}, "cohort.sampling must be fixed"),
    "capabilities": (
        lambda: privately(),
        {"cohort": Cohort(per_round=4, capabilities=(1.0, 0.5))},
        "cohort.capabilities must be 1",
    ),
    "clients' metrics": (lambda: privately(), {"evaluate": Evaluate(clients=True)}, "evaluate.clients must be off"),
}


@pytest.mark.parametrize(("make", "changes", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_what_contradicts_the_guarantee_is_found_before_anything_runs(make, changes, message):
    with pytest.raises(FedSepError, match=message):
        run(make(), None, **{**PRIVATE, **changes})


def test_several_mistakes_are_told_at_once_and_none_without_privacy():
    settings = {**PRIVATE, "stop": Stop(min_replies=3), "evaluate": Evaluate(clients=True)}
    with pytest.raises(FedSepError) as error:
        run(privately(), None, **settings)
    assert len(str(error.value).splitlines()) == 2
    run(fedavg(), None, **{**settings, "rounds": 1, "cohort": Cohort(per_round=4)})


def test_reports_beside_the_change_are_refused():
    @dataclass(frozen=True)
    class Telling(wires.Dense):
        def pack(self, tree, memory, ctx):
            return {**tree, "report": torch.zeros(2)}, memory

        def unpack(self, payload, like, ctx):
            return {name: part for name, part in payload.items() if name != "report"}

    with pytest.raises(FedSepError, match="method must send no report with its change"):
        run(privately(fedavg(uplink=Telling())), None, **PRIVATE)


def test_without_opacus_a_private_run_is_refused_by_name_of_the_extra(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "opacus" else find(name, *more)
    )
    with pytest.raises(FedSepError, match=r"pip install 'fedsep\[dp\]'"):
        run(privately(), None, **PRIVATE)
