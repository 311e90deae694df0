"""The recipes of methods with weak clients can be built: names, arguments, zoos and public data fit."""

from pathlib import Path

import pytest

from fedsep.algorithms.fedsep_personal import NearServer
from fedsep.gates import Free, GateScores, Hypernetwork
from fedsep.recipes import RecipeError, build, from_tree, read
from fedsep.recipes.text import parse
from fedsep.scores.activation import Activation
from fedsep.scores.taylor import Taylor
from fedsep.train import fit

FOLDER = Path(__file__).resolve().parents[2] / "recipes/heterogeneous"


@pytest.mark.parametrize("method", ["zerofl", "feddst", "flash", "feddf", "dsfl", "fedet"])
def test_each_method_has_a_recipe_that_can_be_built(method):
    recipe = read(FOLDER / f"{method}.yaml")
    found = build(recipe, 0)
    assert list(found.algorithms)[:2] == ["fedavg", method]
    assert (found.federation.public is not None) is (method in ("feddf", "dsfl", "fedet"))
    assert min(recipe.options()["cohort"].capabilities) < 1


def test_a_zoo_is_read_with_its_capabilities():
    built = build(read(FOLDER / "fedet.yaml"), 0).algorithms["fedet"]
    assert built.view.zoo.levels == (1.0, 0.5, 0.25)
    assert [tuple(built.view.zoo.members[name].init()["layer1.weight"].shape) for name in ("1", "0.5", "0.25")] == [
        (64, 64), (32, 64), (16, 64)]  # fmt: skip


SCORED = """
rounds: 1
data: {use: fedsep.data.digits, clients: 4}
model: {use: fedsep.models.mlp, hidden: [8]}
task: {use: fedsep.tasks.classification}
method: {use: fedsep.algorithms.fedsep_mask, scores: SCORES}
"""


@pytest.mark.parametrize(("scores", "wanted", "images"), [
    ("taylor", Taylor, 200), ("activation", Activation, 200), ("fedsep.scores.activation", Activation, 200),
    ("{use: fedsep.scores.taylor, images: 7}", Taylor, 7),
])  # fmt: skip
def test_scores_have_a_name_or_are_made_by_a_function_that_is_called_later(scores, wanted, images):
    method = build(from_tree(parse(SCORED.replace("SCORES", scores), "r"), "r.yaml"), 0).algorithms["fedsep_mask"]
    scorer = method.codec.scorer
    assert isinstance(scorer, wanted)
    assert scorer.images == images
    assert getattr(scorer, "classes", 10) == 10


def test_a_name_that_is_none_is_no_path():
    says = r"scores: must be one of gates, taylor, activation or .* \(got 'tailor'; did you mean taylor\?\)"
    with pytest.raises(RecipeError, match=says):
        from_tree(parse(SCORED.replace("SCORES", "tailor"), "r"), "r.yaml")


def gated(options, method="fedsep_mask", more="", validation=0):
    """The experiment of a recipe whose scores are a block of gates."""
    text = SCORED.replace("SCORES", f"{{use: fedsep.gates.gate_scores, {options}}}").replace("fedsep_mask", method)
    text = text.replace("clients: 4", f"clients: 4, validation: {validation}")
    tree = parse(text, "r")
    tree["method"] |= {"steps": 1, "batch_size": 8, **parse(more or "{}", "r")}
    return build(from_tree({**tree, "cohort": {"capabilities": [0.5]}}, "r.yaml"), 0)


@pytest.mark.parametrize("method", ["fedsep_mask", "fedsep_shared"])
@pytest.mark.parametrize(("options", "network", "lr"), [
    ("preset: nppm", Hypernetwork, 1e-3), ("preset: nppm, form: free, steps: 2", Free, 5e-2),
    ("form: free, data: validation, elementwise: true", Free, 0.1),
])  # fmt: skip
def test_gates_take_their_options_in_a_recipe_and_a_round_is_played(method, options, network, lr):
    experiment = gated(options, method, validation=200)
    [algorithm] = experiment.algorithms.values()
    scorer = algorithm.codec.scorer
    assert isinstance(scorer, GateScores)
    assert isinstance(scorer.network, network)
    assert (scorer.adam.lr, scorer.classes) == (lr, 10)
    assert scorer.data == ("validation" if "validation" in options else "train")
    done = fit(algorithm, experiment.task, experiment.federation, rounds=1, **experiment.recipe.options())
    assert (done.metrics[-1]["replies"], done.metrics[-1]["failures"]) == (4, 0)


@pytest.mark.parametrize(("more", "exponent"), [("", 2), ("{gates: inner}", 1), ("{budget: params}", 2)])
def test_gates_are_told_what_the_method_cuts_and_what_a_capability_is(more, exponent):
    [method] = gated("preset: nppm", more=more).algorithms.values()
    scorer = method.codec.scorer
    assert scorer.exponent == exponent
    assert dict(scorer.gating.units.sizes) == dict(method.view.part.units.sizes)
    parameters = sum(part.numel() for part in scorer.task.init().values())
    assert (scorer.cost.total == parameters) == ("params" in more)


@pytest.mark.parametrize(("options", "says"), [
    ("gates: inner", r"scores: must have the method's gates, all_tied: give gates to .* \(got 'inner'\)"),
    ("budget: flops", r"scores: must have the method's budget, width"),
    ("data: validation", r"scores must be fitted to training data where clients have no validation .*client 0 has"),
    ("batch_size: 1", r"scores.batch_size: must be >= 2 \(got 1\)"),
    ("classes: 3", r"scores.classes: is filled in"),
])  # fmt: skip
def test_gates_that_contradict_the_method_or_the_data_are_refused(options, says):
    with pytest.raises(RecipeError, match=says):
        gated(options)


MASKS = {
    "fedsep_mask": ["fedsep_mask", "in_common", "kept_random"],
    "fedsep_shared": ["fedsep_shared", "held_rolling", "two_clusters", "shared_random"],
}


@pytest.mark.parametrize("recipe", MASKS)
def test_the_recipes_of_masks_have_their_controls(recipe):
    assert list(read(FOLDER / f"{recipe}.yaml").methods) == MASKS[recipe]


def test_a_residual_network_is_also_cut_as_published_every_layer_by_itself():
    tied, untied = list(build(read(FOLDER / "resnet_digits.yaml"), 0).algorithms.values())[2:]
    assert len(untied.view.units.sizes) > len(tied.view.units.sizes)


@pytest.mark.parametrize("method", ["zerofl", "feddst", "flash"])
def test_sparse_models_are_trained_on_own_classes_unless_told(method):
    for algorithm in list(build(read(FOLDER / f"{method}.yaml"), 0).algorithms.values())[1:]:
        assert algorithm.learner.classes == 10


def test_a_recipe_names_a_lower_level_problem():
    recipe = read(FOLDER.parent / "digits/implicit.yaml")
    found = build(recipe, 0)
    algorithm = found.algorithms["fedsep_implicit"]
    assert algorithm.codec.inner == NearServer(found.task, 5.0)
    done = fit(algorithm, found.task, found.federation, rounds=1)
    assert (done.metrics[-1]["replies"], done.metrics[-1]["failures"]) == (10, 0)


@pytest.mark.parametrize("evaluate", ["{}", "{served: [1]}"])
def test_several_densities_need_something_that_chooses_among_them(evaluate):
    text = f"""
rounds: 1
data: {{use: fedsep.data.digits, clients: 4, validation: 20}}
model: {{use: fedsep.models.mlp, hidden: [8]}}
task: {{use: fedsep.tasks.classification}}
method: {{use: fedsep.algorithms.zerofl, served: [1.0, 0.25]}}
evaluate: {evaluate}
"""
    recipe = from_tree(parse(text, "r.yaml"), "r.yaml")
    if evaluate == "{}":
        with pytest.raises(RecipeError, match=r"several served densities \(1, 0\.25\) need evaluate\.served"):
            build(recipe, 0)
    else:
        assert build(recipe, 0).algorithms["zerofl"].densities == (1.0, 0.25)
