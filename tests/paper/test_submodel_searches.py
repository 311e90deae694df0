"""Ideas and the second term of Eq. (8): one budget of tuning for every idea, and runs that are made once."""

import dataclasses
import json
from functools import partial

import pytest
import torch
from catalogue import INPUTS, UNITS, network, shard

from fedsep import algorithms, random, tree
from fedsep.core import Ctx
from fedsep.gates import SecondTerm, gate_scores
from fedsep.paper.table1.scales import SCALES

SMOKE = dataclasses.replace(SCALES["smoke"].settings[0], tries=(0.1, 0.2), beyond=(0.05, 0.4))


@pytest.fixture
def ideas(monkeypatch):
    from benchmarks import ideas_submodels

    monkeypatch.setattr(ideas_submodels, "SETTINGS", {"k2": SMOKE})
    monkeypatch.setattr(ideas_submodels, "TUNED", 2)
    return ideas_submodels


def in_this_process(monkeypatch, one):
    """Has ``one`` make the runs, in place of processes."""

    class Here:
        def __init__(self, jobs): ...
        def __enter__(self):
            return self

        def __exit__(self, *_): ...
        def imap_unordered(self, work, todo):
            return map(one, todo)

    monkeypatch.setattr("multiprocessing.get_context", lambda _: type("Spawn", (), {"Pool": Here}))


def test_leading_ideas_are_there_with_their_controls():
    from benchmarks.reductions_tried import IDEAS, LEADING

    assert set(LEADING) <= set(IDEAS)
    assert {"heterofl", "importance", "half and more"} <= set(LEADING)
    assert len(set(LEADING)) == 10


def test_masks_are_tried_on_validation_data_alone(monkeypatch):
    from benchmarks import ideas_personal as search
    from benchmarks import ideas_submodels

    seen, real = [], ideas_submodels.fit
    monkeypatch.setattr(search, "SETTINGS", {"k2": SMOKE})
    monkeypatch.setattr(ideas_submodels, "fit", lambda *given, **how: seen.append(given[2]) or real(*given, **how))
    asked = ideas_submodels.Asked("k2", "taylor, three quarters in common", 100, 2, 0.1)
    made = search.run(asked)
    assert 0 < made["own_classes"] <= 1
    [fleet] = seen
    own = ideas_submodels.problem(SMOKE, 100)[0]
    assert torch.equal(fleet.test.x, own.validation.x)
    assert all(torch.equal(fleet.shard(client).test.x, own.shard(client).validation.x) for client in range(3))
    another = asked._replace(seed=101)
    assert search.wanted([made], [asked, another]) == [another]


def test_masks_are_compared_at_rates_that_own_classes_choose(monkeypatch, tmp_path):
    from benchmarks import heterogeneity
    from benchmarks import own_classes as compared

    monkeypatch.setattr(compared, "SETTINGS", {"k5": SMOKE})
    monkeypatch.setattr("benchmarks.ideas_submodels.SETTINGS", {"k5": SMOKE})
    runs = []
    while todo := compared.left(runs, ["k5"], ["fedrolex"]):
        last = todo
        runs += [{"setting": setting, "idea": row, "seed": seed, "rounds": rounds, "lr": rate, "best": -rate,
                  "best_own_classes": rate} for setting, row, seed, rounds, rate in todo]  # fmt: skip
    assert [run["lr"] for run in runs] == [0.1, 0.2, 0.4, 0.4, 0.4, 0.4]
    assert [asked[2] for asked in last] == [0, 1, 2]

    monkeypatch.setattr(heterogeneity, "RECORD", tmp_path)
    table = [{"row": "fedrolex", "seeds": [0, 1], "own_classes_each": [0.75, 0.5]}]
    (tmp_path / "mnist_k5.json").write_text(json.dumps(table))
    tuned = {"chosen": {"fedrolex": {"settings": {"methods.fedrolex.lr": 0.4}}}}
    (tmp_path / "mnist_k5_all_tuning.json").write_text(json.dumps(tuned))
    assert compared.run(last[1]) == {"setting": "k5", "idea": "fedrolex", "seed": 1, "rounds": 100, "lr": 0.4,
                                     "own_classes": 0.5, "from": "Table 1"}  # fmt: skip
    assert compared.in_table("k5", "fedrolex", 1, 0.2) is None  # another rate
    assert compared.in_table("k5", "fedrolex", 2, 0.4) is None  # another seed
    assert compared.in_table("k5", "mask with a common order", 1, 0.4) is None  # no row of the table


def test_rates_are_chosen_without_test_data_which_are_met_by_other_seeds(monkeypatch):
    from benchmarks import ideas_submodels
    from benchmarks import own_classes as compared

    seen, real = {}, ideas_submodels.fit
    monkeypatch.setattr(compared, "SETTINGS", {"k5": SMOKE})
    monkeypatch.setattr(
        ideas_submodels, "fit", lambda *given, **how: seen.update({how["seed"]: given[2]}) or real(*given, **how)
    )
    for seed in (ideas_submodels.SEED, 2):
        compared.run(ideas_submodels.Asked("k5", "fedrolex", seed, 2, 0.1))
    parts = {seed: fleet.shard(0) for seed, fleet in seen.items()}
    assert torch.equal(parts[100].test.x, parts[100].validation.x)
    assert parts[2].test.size != parts[2].validation.size


def test_every_idea_is_tried_at_all_rates_then_at_a_further_one_then_runs_at_the_best(ideas):
    options = ideas.Options(("k2",), ("a", "b"), (100, 101), 9)
    best = {("a", 0.1): 0.5, ("a", 0.2): 0.7, ("a", 0.4): 0.6, ("b", 0.1): 0.9, ("b", 0.2): 0.7, ("b", 0.05): 0.95}
    runs, waves = [], []
    while todo := ideas.wanted(runs, options):
        waves.append({(idea, seed, rounds, rate) for _, idea, seed, rounds, rate in todo})
        runs += [{"setting": "k2", "idea": idea, "seed": seed, "rounds": rounds, "lr": rate, "best": best[idea, rate]}
                 for _, idea, seed, rounds, rate in todo]  # fmt: skip
    assert waves == [
        {("a", 100, 2, 0.1), ("a", 100, 2, 0.2), ("b", 100, 2, 0.1), ("b", 100, 2, 0.2)},
        {("a", 100, 2, 0.4), ("b", 100, 2, 0.05)},
        {("a", 100, 9, 0.2), ("a", 101, 9, 0.2), ("b", 100, 9, 0.05), ("b", 101, 9, 0.05)},
    ]


def test_a_rate_whose_figure_is_no_number_is_not_the_best(ideas):
    tries = [{"setting": "k2", "idea": "a", "seed": 100, "rounds": 2, "lr": rate, "best": best}
             for rate, best in ((0.1, float("nan")), (0.2, 0.5), (0.4, 0.4))]  # fmt: skip
    assert ideas.wanted(tries, ideas.Options(("k2",), ("a",), (100,), 9)) == [("k2", "a", 100, 9, 0.2)]


def test_a_run_of_an_idea_looks_at_validation_data_alone(ideas):
    torch.set_default_dtype(torch.float32)
    found = ideas.run("k2", "root of importance", 100, 3, 0.1)
    asked = {"setting": "k2", "idea": "root of importance", "seed": 100, "rounds": 3, "lr": 0.1}
    assert {name: found[name] for name in asked} == asked
    assert 0 < found["validation_served_accuracy"] <= found["best"] <= 1
    assert not [name for name in found if name.startswith("test")]
    assert ideas.run("k2", "root of importance", 100, 3, 0.2) != found


def test_a_record_is_gone_on_with(ideas, tmp_path, monkeypatch):
    made = []

    def one(asked):
        made.append(asked)
        return dict(zip(("setting", "idea", "seed", "rounds", "lr"), asked, strict=True)) | {"best": asked[4]}

    in_this_process(monkeypatch, one)
    options, out = ideas.Options(("k2",), ("heterofl",), (100,), 5), tmp_path / "ideas.json"
    ideas.search(options, 1, out)
    assert [asked[3:] for asked in made] == [(2, 0.1), (2, 0.2), (2, 0.4), (5, 0.4)]
    ideas.search(options, 1, out)
    assert len(made) == len(json.loads(out.read_text())["runs"]) == 4


def test_runs_of_the_second_term_are_not_made_twice(tmp_path, monkeypatch):
    from benchmarks import second_term

    made = []

    def one(asked):
        made.append(asked)
        return dict(zip(("seed", "row", "rounds", "lr"), asked, strict=True))

    in_this_process(monkeypatch, one)
    for rounds in (5, 5, 6):
        second_term.compare([(100, "first", rounds, 0.3)], 1, tmp_path / "terms.json")
    assert [asked[2] for asked in made] == [5, 6]


def test_a_random_second_term_is_as_long_and_points_elsewhere():
    from benchmarks.second_term import at_random

    gates = {"inputs": (INPUTS,), "form": "free", "steps": 3, "batch_size": 4}
    method = algorithms.fedsep_mask(
        network, units=UNITS, scores=partial(gate_scores, **gates), terms="both", lr=0.1, steps=1
    )
    other, x, own = at_random(method), network.init(), shard(network, 0, 8)
    ctx = Ctx(0, 0.5, random.key(3))
    phi = method.codec.second.scores.solve(x, own, ctx)
    first = tree.scale(x, 0.1)
    true, drawn = (each.codec.second(x, phi, first, own, ctx).value for each in (method, other))
    assert type(method.codec.second) is SecondTerm
    assert float(tree.norm(drawn)) == pytest.approx(float(tree.norm(true)))
    assert abs(float(tree.dot(true, drawn))) < 0.9 * float(tree.norm(true)) ** 2
    again = other.codec.second(x, phi, first, own, ctx).value
    assert float(tree.norm(tree.sub(again, drawn))) == 0


def test_the_second_term_is_measured_in_the_librarys_own_method(ideas, monkeypatch):
    from benchmarks import second_term

    torch.set_default_dtype(torch.float32)
    monkeypatch.setattr(second_term, "SETTINGS", {"k2": SMOKE})
    found = {row: second_term.run((100, row, 2, 0.1)) for row in second_term.ROWS}
    assert list(found) == ["first", "both", "random"]
    figures = [(one["validation_served_accuracy"], one["validation_average_served_accuracy"]) for one in found.values()]
    assert all(0 <= value <= 1 for pair in figures for value in pair)
    assert {one["lr"] for one in found.values()} == {0.1}


def test_the_second_term_takes_the_rate_that_the_table_chose(tmp_path):
    from benchmarks.second_term import tuned_rate

    chosen = {"fedsep_mask": {"settings": {"methods.fedsep_mask.lr": 0.6}}}
    (tmp_path / "mnist_k2_all_tuning.json").write_text(json.dumps({"chosen": chosen}))
    assert tuned_rate(tmp_path) == 0.6
