"""Every mistake a recipe can have, with the message it gets."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torch import nn

from fedsep.recipes import RecipeError, Sources, build, from_tree, parse_change
from fedsep.recipes.text import parse

GOOD = """
rounds: 2
data: {use: fedsep.data.digits, clients: 4, partition: {use: fedsep.data.iid}, validation: 20}
model: {use: fedsep.models.mlp, hidden: [8]}
methods:
  - {use: fedsep.algorithms.fedavg, lr: 0.1, steps: 1}
  - {use: fedsep.algorithms.fedsep_linear, p: 20, steps: 1}
"""


def recipe(*changes):
    return from_tree(parse(GOOD, "r.yaml"), "r.yaml", changes=[parse_change(text) for text in changes])


def mistakes_of(tree):
    with pytest.raises(RecipeError) as error:
        from_tree(tree, "r.yaml")
    return str(error.value).splitlines()


def tree_with(**changed):
    tree = parse(GOOD, "r.yaml")
    return {key: value for key, value in {**tree, **changed}.items() if value != "REMOVED"}


def method(**arguments):
    return tree_with(methods=[{"use": "fedsep.algorithms.fedavg", **arguments}])


@pytest.mark.parametrize(
    ("tree", "messages"),
    [
        (None, ["r.yaml: a recipe is a block of keys such as rounds, data, model, methods (got null)"]),
        ([1], ["r.yaml: a recipe is a block of keys such as rounds, data, model, methods (got [1])"]),
        (tree_with(rounds="REMOVED"), ["r.yaml: rounds: is missing: a recipe needs a whole number >= 1 here"]),
        (tree_with(rounds=0), ["r.yaml: rounds: must be a whole number >= 1 (got 0)"]),
        (tree_with(rounds=2.5), ["r.yaml: rounds: must be a whole number >= 1 (got 2.5)"]),
        (tree_with(rounds=True), ["r.yaml: rounds: must be a whole number >= 1 (got true)"]),
        (tree_with(rounds="ten"), ["r.yaml: rounds: must be a whole number >= 1 (got 'ten')"]),
        (tree_with(seed=-1), ["r.yaml: seed: must be a whole number >= 0 or a list of different ones (got -1)"]),
        (tree_with(seed=[1, 1]), [
            "r.yaml: seed: must be a whole number >= 0 or a list of different ones (got [1, 1])"]),
        (tree_with(seed="x"), ["r.yaml: seed: must be a whole number >= 0 or a list of different ones (got 'x')"]),
        (tree_with(seed=[0, "x"]), [
            "r.yaml: seed: must be a whole number >= 0 or a list of different ones (got [0, 'x'])"]),
        (tree_with(seed=-1, rounds=0), [
            "r.yaml: seed: must be a whole number >= 0 or a list of different ones (got -1)",
            "r.yaml: rounds: must be a whole number >= 1 (got 0)"]),
        (tree_with(cohort={"per_round": 5}), [
            "r.yaml: cohort.per_round: must be at most the number of clients, 4 (got 5)"]),
        (tree_with(round=3), ["r.yaml: round: is no part of a recipe (got 3; did you mean rounds?)"]),
        (tree_with(states="ram"), ["r.yaml: states: must be memory or disk (got 'ram')"]),
        (tree_with(methods="REMOVED"), ["r.yaml: methods: is missing: a recipe needs a list of blocks with use: here"]),
        (tree_with(methods=[]), ["r.yaml: methods: must be a list of blocks with use: (got [])"]),
        (tree_with(methods=[3]), ["r.yaml: methods.0: must be a block with use: (got 3)"]),
        (tree_with(method={"use": "fedsep.algorithms.fedavg"}), [
            "r.yaml: method: is given beside methods: give one of them"]),
        (tree_with(data=3), ["r.yaml: data: must be a block with use: (got 3)"]),
        (
            tree_with(data={"clients": 3}),
            ["r.yaml: data.use: is missing: it must be a dotted path, as in fedsep.data.digits"],
        ),
        (
            tree_with(data={"use": "fedsep.data.digit"}),
            ["r.yaml: data.use: there is no fedsep.data.digit (did you mean fedsep.data.digits?)"],
        ),
        (
            tree_with(data={"use": "fedsep.datasets.digits"}),
            ["r.yaml: data.use: there is no fedsep.datasets.digits (did you mean fedsep.data.digits?)"],
        ),
        (
            tree_with(data={"use": "sklearn.datasets.load_digits"}),
            [
                "r.yaml: data.use: only paths in fedsep may be named; --allow sklearn permits this one"
            ],
        ),
        (
            tree_with(data={"use": "fedsep.models.mlp"}),
            ["r.yaml: data.use: fedsep.models.mlp gives a Sequential, not a Fleet"],
        ),
        (
            tree_with(model={"use": "fedsep.data.digits"}),
            ["r.yaml: model.use: fedsep.data.digits gives a Federation, not a Module"],
        ),
        (
            tree_with(model={"use": "fedsep.models.mlp", "classes": 10}),
            ["r.yaml: model.classes: is filled in from the data: leave it out (got 10)"],
        ),
        (
            tree_with(model={"use": "fedsep.models.mlp", "hidden": [8, 0]}),
            ["r.yaml: model.hidden.1: must be >= 1 (got 0)"],
        ),
        (
            tree_with(model={"use": "fedsep.models.mlp", "hidden": ["a"]}),
            ["r.yaml: model.hidden.0: must be a whole number >= 1 (got 'a')"],
        ),
        (
            tree_with(data={"use": "fedsep.data.digits", "partition": 3}),
            ["r.yaml: data.partition: must be a block with use: (got 3)"],
        ),
        (
            tree_with(data={"use": "fedsep.data.digits", "partition": {"use": "fedsep.data.classes"}}),
            ["r.yaml: data.partition.k: is missing: fedsep.data.classes needs a whole number >= 1"],
        ),
        (
            tree_with(data={"use": "fedsep.data.digits", "partition": {"use": "fedsep.models.mlp"}}),
            ["r.yaml: data.partition.use: fedsep.models.mlp gives a Sequential, not a Rule"],
        ),
        (method(lrr=0.1), [
            "r.yaml: methods.fedavg.lrr: fedsep.algorithms.fedavg has no such argument (got 0.1; did you mean lr?)"]),
        (method(lr=-1), ["r.yaml: methods.fedavg.lr: must be > 0 (got -1)"]),
        (method(lr="0.1"), ["r.yaml: methods.fedavg.lr: must be a number > 0 (got '0.1')"]),
        (method(lr=True), ["r.yaml: methods.fedavg.lr: must be a number > 0 (got true)"]),
        (method(lr=None), ["r.yaml: methods.fedavg.lr: must be a number > 0 (got null)"]),
        (method(lr={"use": "fedsep.models.mlp"}), [
            "r.yaml: methods.fedavg.lr: must be a number > 0 (got a block with use: fedsep.models.mlp)"]),
        (method(steps=1.5), ["r.yaml: methods.fedavg.steps: must be a whole number >= 1 or null (got 1.5)"]),
        (method(momentum=1.0), ["r.yaml: methods.fedavg.momentum: must be >= 0 and < 1 (got 1.0)"]),
        (method(weighting="uniforn"), [
            "r.yaml: methods.fedavg.weighting: must be one of uniform, samples "
            "(got 'uniforn'; did you mean uniform?)"]),
        (method(task=1), ["r.yaml: methods.fedavg.task: is filled in from the task block: leave it out (got 1)"]),
        (method(schedule={"use": "fedsep.learners.cosine", "round": 3}), [
            "r.yaml: methods.fedavg.schedule.rounds: is missing: fedsep.learners.cosine needs a whole number >= 1",
            "r.yaml: methods.fedavg.schedule.round: fedsep.learners.cosine has no such argument "
            "(got 3; did you mean rounds?)"]),
        (method(name="a b"), [
            "r.yaml: methods.0.name: must be letters, digits, _, -, + or =: "
            "it becomes a folder, and --set finds it between dots (got 'a b')"]),
        (tree_with(methods=[{"use": "fedsep.algorithms.fedavg", "name": "a"}] * 2), [
            "r.yaml: methods.1.name: another method has this name (got 'a')"]),
        (tree_with(methods=[{"use": "fedsep.algorithms.fedavg"}, {"use": "fedsep.algorithms.fedavg", "lr": 0}]), [
            "r.yaml: methods.fedavg_2.lr: must be > 0 (got 0)"]),
        (tree_with(cohort={"per_round": 0, "capabilities": [1, 1.5], "draw": "static", "size": 3}), [
            "r.yaml: cohort.per_round: must be >= 1 (got 0)",
            "r.yaml: cohort.capabilities.1: must be > 0 and <= 1 (got 1.5)",
            "r.yaml: cohort.draw: must be one of fixed, ordered, dynamic (got 'static')",
            "r.yaml: cohort.size: cohort has no such key (got 3; did you mean per_round, capabilities, draw or "
            "sampling?)"]),
        (tree_with(cohort=[1]), ["r.yaml: cohort: must be a block (got [1])"]),
        (tree_with(engine={"use": "fedsep.engines.worker"}), [
            "r.yaml: engine.use: there is no fedsep.engines.worker (did you mean fedsep.engines.workers?)"]),
        (tree_with(task={"use": "fedsep.tasks.regresion"}), [
            "r.yaml: task.use: there is no fedsep.tasks.regresion (did you mean fedsep.tasks.regression?)"]),
        # All at once, in the order of the recipe, though the outer shape is wrong too.
        (tree_with(rounds=-1, model={"use": "fedsep.models.cn"}, evaluate={"evry": 1}), [
            "r.yaml: rounds: must be a whole number >= 1 (got -1)",
            "r.yaml: model.use: there is no fedsep.models.cn (did you mean fedsep.models.cnn?)",
            "r.yaml: evaluate.evry: evaluate has no such key (got 1; did you mean every?)"]),
    ],
)  # fmt: skip
def test_without_the_data(tree, messages):
    assert mistakes_of(tree) == messages


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        (["data.clients=5000"], [
            "--set data.clients=5000: data.clients: must be at most the 1,418 training samples, "
            "after 20 were held out for validation (got 5,000)"]),
        (["data.partition={use: fedsep.data.classes, k: 3}"], [
            "--set data.partition={use: fedsep.data.classes, k: 3}: data.partition.k: does not divide"]),
        (["methods.fedsep_linear.p=100000"], [
            "--set methods.fedsep_linear.p=100000: methods.fedsep_linear.p: must be at most d = 610, "
            "the number of model parameters (got 100000)"]),
        (["stop.min_replies=9"], [
            "--set stop.min_replies=9: stop.min_replies: must be at most the cohort's size, 4 (got 9)"]),
        (["model={use: fedsep.models.cnn}"], [
            "--set model={use: fedsep.models.cnn}: model: images must be at least 16 x 16 pixels"]),
        (["task={use: fedsep.tasks.regression}"], ["r.yaml: model: model and data do not fit"]),
    ],
)  # fmt: skip
def test_with_the_data(changes, messages):
    read = recipe(*changes)
    with pytest.raises(RecipeError) as error:
        build(read, 0, Sources())
    lines = str(error.value).splitlines()
    assert len(lines) == len(messages)
    assert all(line.startswith(message) for line, message in zip(lines, messages, strict=True))


def test_a_layer_that_cannot_be_trained_is_the_models_mistake():
    def noisy(shape, classes):
        return nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(64, classes))

    read = recipe()
    read = replace(read, model=replace(read.model, target=noisy, arguments={}, inject=("shape", "classes")))
    with pytest.raises(
        RecipeError, match=r"^r\.yaml: model: the model cannot be trained as a function of its parameters"
    ):
        build(read, 0)


def test_methods_that_do_not_fit_are_all_named():
    read = recipe("methods.fedsep_linear.p=611", "methods.fedavg={use: fedsep.algorithms.fedsep_linear, p: 612}")
    with pytest.raises(RecipeError) as error:
        build(read, 0)
    assert [mistake.path for mistake in error.value.mistakes] == [
        "methods.fedsep_linear.p",
        "methods.fedsep_linear_2.p",
    ]


def test_options_are_blamed_for_what_they_wrote():
    with pytest.raises(RecipeError) as error:
        recipe("methods.1.p=0", "evaluate.last=x")
    assert str(error.value).splitlines() == [
        "--set methods.1.p=0: methods.fedsep_linear.p: must be >= 1 (got 0)",
        "--set evaluate.last=x: evaluate.last: must be a whole number >= 1 (got 'x')",
    ]


def test_changes_that_cannot_be_made_are_told_with_the_other_mistakes():
    with pytest.raises(RecipeError) as error:
        recipe("methods.fedprox.lr=1", "rounds.x=1", "rounds=0", "methods.fedavg.lr=-1")
    assert str(error.value).splitlines() == [
        "--set methods.fedprox.lr=1: methods has fedavg, fedsep_linear, but not fedprox",
        "--set rounds.x=1: rounds is a single value, so nothing can be set inside it (got 2)",
        "--set rounds=0: rounds: must be a whole number >= 1 (got 0)",
        "--set methods.fedavg.lr=-1: methods.fedavg.lr: must be > 0 (got -1)",
    ]


def test_a_warning_names_the_method_as_the_recipe_does():
    changed = recipe("methods.1.name=fast", "methods.fast.server_lr=100")
    with pytest.warns(UserWarning, match=r"^methods\.fast: server_lr=100\.0 is likely unstable"):
        build(changed, 0)
