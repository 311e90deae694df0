"""Mixed precision: local steps compute the network in bfloat16; nothing else changes, whatever method and engine."""

from __future__ import annotations

import dataclasses
import json
import logging

import pytest
import torch
from catalogue import CATALOGUE, HIDDEN, Row, Tiny, linear, name, network
from engines.toys import differences
from laws.test_vectorised import Fleet, rounds

from fedsep import algorithms, engines, privacy, tree
from fedsep.cli import invoke
from fedsep.core import Decoded, FedSepError
from fedsep.identity import describe
from fedsep.identity import differences as unlike
from fedsep.learners import sgd
from fedsep.recipes import RecipeError, build, from_tree, parse_change
from fedsep.recipes.text import parse
from fedsep.report.grouping import group_runs
from fedsep.report.reading import read_run
from fedsep.testing.draws import context
from fedsep.train import fit

ONE_EACH = list({row.name.split(" ")[0]: row for row in reversed(CATALOGUE)}.values())


@pytest.fixture(autouse=True)
def single_precision(double_precision):
    torch.set_default_dtype(torch.float32)


def lowered(row: Row):
    return row.factory(row.base or row.task, **row.arguments(), precision="bfloat16")


@pytest.mark.parametrize("row", ONE_EACH, ids=name)
def test_every_method_learns_otherwise_and_sends_the_same_types_and_bytes(row):
    fleet = Fleet(row.base or row.task)
    (full, _, _), (low, model, outputs) = (
        rounds(engines.sequential(), method, row.task, fleet, 1) for method in (row.build(), lowered(row))
    )
    for (_, size, payload, memory, info), (_, own_size, own_payload, own_memory, own_info) in zip(
        full, low, strict=True
    ):
        assert own_size == size
        for there, here in ((payload, own_payload), (memory, own_memory)):
            assert [part.dtype for part in tree.leaves(here)] == [part.dtype for part in tree.leaves(there)]
        assert own_info != info
        assert own_info["loss"] == pytest.approx(info["loss"], rel=0.05)
    assert {part.dtype for part in (*model.values(), outputs)} == {torch.float32}


@pytest.mark.parametrize("row", ONE_EACH, ids=name)
def test_vectorised_computes_it_too_where_it_stacks(row, caplog):
    fleet, method = Fleet(row.base or row.task), lowered(row)
    with caplog.at_level(logging.WARNING, "fedsep"):
        together, _, _ = rounds(engines.vectorised(), method, row.task, fleet, 1)
    assert len(caplog.records) == (0 if hasattr(method.learner, "learn_together") else 1), caplog.text
    for one, other in zip(rounds(engines.sequential(), method, row.task, fleet, 1)[0], together, strict=True):
        assert other[-1]["loss"] == pytest.approx(one[-1]["loss"], rel=0.02)


@pytest.mark.parametrize("method", ["fedavg", "fedsep_linear", "zerofl"])
def test_workers_give_the_bits_of_sequential(method):
    row = next(row for row in CATALOGUE if row.name == method)
    fleet = Fleet(row.task)
    expected = rounds(engines.sequential(), lowered(row), row.task, fleet)
    assert not differences(expected, rounds(engines.workers(processes=2), lowered(row), row.task, fleet))


class Watched(Tiny):
    """Says whether it was computed under autocast, by the function that was asked."""

    asked: list[bool] = []

    def predict(self, params, x):
        Watched.asked.append(torch.is_autocast_enabled("cpu"))
        return super().predict(params, x)

    def criterion(self, outputs, targets):
        assert not torch.is_autocast_enabled("cpu")
        assert outputs.dtype == torch.float32
        return super().criterion(outputs, targets)


def test_only_local_steps_are_lowered_decode_encode_and_evaluation_are_not():
    Watched.asked.clear()
    task = Watched(HIDDEN)
    method = algorithms.fedsep_personal(task, steps=3, decode_steps=2, batch_size=4, precision="bfloat16")
    fleet = Fleet(task)
    session = engines.sequential().open(method, task, fleet, lambda *_: None)
    state, seat = method.init(task.init()), context(0)
    begun = method.begin(method.broadcast(state, seat), (client := method.enroll(None, seat)), fleet.shard(0), seat)
    assert not any(Watched.asked)
    Watched.asked.clear()
    learned = method.learner.learn(begun.start, fleet.shard(0), seat)
    assert Watched.asked == [True] * 3
    Watched.asked.clear()
    method.finish(begun, learned, client, fleet.shard(0), seat)
    session.predict(method.model(state), "test")
    session.close()
    assert Watched.asked
    assert not any(Watched.asked)


def test_gradients_are_those_of_bfloat16_products_and_steps_are_added_in_float32():
    start, part = network.init(), Fleet(network).shard(0)
    [full], [low] = (
        list(
            sgd(network, lr=1e-3, steps=1, batch_size=None, precision=precision).trail(Decoded(start), part, context(0))
        )
        for precision in (None, "bfloat16")
    )
    apart = float(tree.norm(tree.sub(low.gradient, full.gradient)) / tree.norm(full.gradient))
    assert 1e-4 < apart < 3e-2
    assert torch.equal(low.y["0.weight"], start["0.weight"].sub(low.gradient["0.weight"], alpha=1e-3))
    assert not torch.equal(low.y["0.weight"], low.y["0.weight"].bfloat16().float())


def test_a_penalty_is_not_lowered():
    def penalty(y):
        assert not torch.is_autocast_enabled("cpu")
        return tree.dot(y, y)

    learner = sgd(network, steps=1, precision="bfloat16")
    learner.learn(Decoded(network.init(), penalty=penalty), Fleet(network).shard(0), context(0))


def test_private_steps_are_lowered_too():
    method = algorithms.fedavg(network, steps=2, batch_size=4, weighting="uniform")
    totals = []
    for precision in (None, "bfloat16"):
        steps = privacy.dp_sgd(
            dataclasses.replace(method, learner=sgd(network, steps=2, batch_size=4, precision=precision)),
            clip=1.0, noise=1.0, batch_size=4, secret=3,
        ).learner  # fmt: skip
        totals.append(steps._total(network.init(), Fleet(network).shard(0).train.all()))
    assert {part.dtype for part in totals[1].values()} == {torch.float64}
    assert 1e-4 < float(tree.norm(tree.sub(*totals)) / tree.norm(totals[0])) < 3e-2


RECIPE = """
rounds: 12
data: {use: fedsep.data.digits, clients: 4, partition: {use: fedsep.data.iid}, validation: 20}
model: {use: fedsep.models.mlp, hidden: [16]}
methods:
  - {use: fedsep.algorithms.fedavg, lr: 0.2, steps: 10}
  - {use: fedsep.algorithms.fedsep_linear, p: 20, steps: 1}
"""


def recipe(*changes):
    return from_tree(parse(RECIPE, "r.yaml"), "r.yaml", changes=[parse_change(text) for text in changes])


def test_one_key_of_a_recipe_is_for_every_method_and_a_methods_own_wins():
    made = build(recipe("precision=bfloat16"), 0).algorithms
    assert [method.learner.precision for method in made.values()] == ["bfloat16"] * 2
    made = build(recipe("precision=bfloat16", "methods.fedavg.precision=float32"), 0).algorithms
    assert [method.learner.precision for method in made.values()] == [None, "bfloat16"]
    made = build(recipe(), 0).algorithms
    assert [method.learner.precision for method in made.values()] == [None, None]


def test_a_recipe_without_it_is_resolved_as_ever_and_one_with_it_names_it():
    assert "precision" not in json.dumps(recipe().resolved())
    told = recipe("precision=bfloat16").single("fedavg", 0)
    assert told["precision"] == "bfloat16"
    assert "precision" not in told["method"]
    assert from_tree(told, "again.yaml").single("fedavg", 0) == told


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("precision=bfloat", r"precision: must be float32 or bfloat16 \(got 'bfloat'; did you mean bfloat16\?\)"),
        ("precision=16", r"precision: must be float32 or bfloat16 \(got 16\)"),
        ("precison=bfloat16", r"precison: is no part of a recipe \(got 'bfloat16'; did you mean precision\?\)"),
        ("methods.0.precision=bfloat", r"methods.fedavg.precision: must be one of .* did you mean bfloat16\?\)"),
    ],
)
def test_a_name_that_is_none_is_refused_with_the_nearest(change, says):
    with pytest.raises(RecipeError, match=says):
        recipe(change)


def deaf(task):
    """A method without local steps of ours."""
    return algorithms.fedavg(task)


def test_a_method_that_cannot_be_reached_is_named():
    tree_ = parse(RECIPE, "r.yaml") | {"precision": "bfloat16"}
    tree_["methods"] = [*tree_["methods"], {"use": "test_precision.deaf"}]
    with pytest.raises(RecipeError) as error:
        from_tree(tree_, "r.yaml", allow=["test_precision"])
    [line] = str(error.value).splitlines()
    assert "precision: does not reach methods.deaf: test_precision.deaf has no argument precision" in line
    wrapped = {"use": "fedsep.privacy.dp_sgd", "method": {"use": "fedsep.algorithms.fedavg"}, "clip": 1.0, "noise": 1.0}
    found = from_tree({**tree_, "methods": [{**wrapped, "batch_size": 20}]}, "r.yaml")
    assert found.methods["dp_sgd"].receives("precision")


def test_a_model_that_is_not_in_float32_is_refused():
    torch.set_default_dtype(torch.float64)
    for precision in ("bfloat16", "float32"):
        with pytest.raises(FedSepError, match=f"precision must be left out: {precision} .* and this one's are float64"):
            sgd(linear, precision=precision)
    with pytest.raises(RecipeError, match=r"methods.fedsep_linear: precision must be left out"):
        build(recipe("precision=bfloat16"), 0)
    with pytest.raises(FedSepError, match="precision must be float32 or bfloat16"):
        sgd(linear, precision="float16")


def test_it_is_part_of_what_a_run_is_made_of():
    plain, low = (describe(algorithms.fedavg(network, precision=precision)) for precision in ("float32", "bfloat16"))
    assert unlike(describe(algorithms.fedavg(network)), plain) == []
    assert unlike(plain, low) == ['learner.precision: null there, "bfloat16" here']
    earlier = {**plain, "learner": {key: part for key, part in plain["learner"].items() if key != "precision"}}
    assert unlike(earlier, plain) == []  # a run of before there was any choice


def test_a_small_problem_is_learned_and_comparisons_tell_the_two_apart(tmp_path):
    (tmp_path / "r.yaml").write_text(RECIPE)
    for precision in ("float32", "bfloat16"):  # by the same path as a user
        asked = ["--set", f"precision={precision}", "--out", str(tmp_path / precision), "--quiet"]
        assert invoke(["run", str(tmp_path / "r.yaml"), *asked]) == 0
    runs = [read_run(tmp_path / kind / "fedavg" / "seed0") for kind in ("float32", "bfloat16")]
    last = [run.rows[-1] for run in runs]
    assert min(row["test_accuracy"] for row in last) > 0.85
    assert last[0]["train_loss"] != last[1]["train_loss"]
    assert last[0]["bytes_up"] == last[1]["bytes_up"]
    assert [group.label for group in group_runs(runs)] == ["fedavg · precision=float32", "fedavg · precision=bfloat16"]


def test_a_resumed_run_keeps_its_precision_and_takes_no_other(tmp_path):
    def played(out, rounds, *changes):
        asked = recipe(*changes)
        made = build(asked, 0)
        single = asked.single("fedavg", 0)
        return fit(made.algorithms["fedavg"], made.task, made.federation, rounds=rounds, out=tmp_path / out,
                   recipe=single, resume=True)  # fmt: skip

    whole = played("whole", 5, "precision=bfloat16").metrics
    played("parts", 2, "precision=bfloat16")
    with pytest.raises(FedSepError, match=r'method.learner.precision: "bfloat16" there, null here'):
        played("parts", 5)
    parts = played("parts", 5, "precision=bfloat16").metrics
    assert [row["train_loss"] for row in parts] == [row["train_loss"] for row in whole]
