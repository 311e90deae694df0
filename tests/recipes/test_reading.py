"""What a good recipe becomes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
import torch

from fedsep.fedsep import FedSep
from fedsep.recipes import RecipeError, build, find, from_tree, read
from fedsep.recipes.bind import Binder, Scope
from fedsep.recipes.call import Reference
from fedsep.recipes.resolve import UnknownPath, resolve
from fedsep.recipes.text import dump, parse

TEXT = """
seed: [3, 4]
rounds: 1e1
data: {use: fedsep.data.digits, clients: 4, validation: 20}
model: {use: fedsep.models.mlp, hidden: [8]}
methods:
  - {use: fedsep.algorithms.fedavg, lr: 1, steps: 1e0, schedule: {use: fedsep.learners.cosine, rounds: 10}}
  - {use: fedsep.algorithms.fedavg, server: {use: fedsep.servers.adam, lr: 1e-2}, name: adam}
  - {use: fedsep.algorithms.fedsep_linear.fedsep_linear, p: 20}
cohort: {per_round: 2, capabilities: [1]}
"""


def test_numbers_are_what_the_signature_wants():
    recipe = from_tree(parse(TEXT, "r"), "r.yaml")
    assert (recipe.rounds, recipe.seeds, recipe.name) == (10, (3, 4), "r")
    arguments = recipe.methods["fedavg"].arguments
    assert (arguments["lr"], arguments["steps"]) == (1.0, 1)
    assert [type(arguments[name]) for name in ("lr", "steps")] == [float, int]
    assert recipe.options()["cohort"].capabilities == (1.0,)


def test_a_resolved_recipe_reads_as_itself():
    recipe = from_tree(parse(TEXT, "r"), "r.yaml")
    again = from_tree(parse(dump(recipe.resolved()), "again"), "again.yaml")
    assert again.resolved() == recipe.resolved()
    assert again.name == "r"
    single = from_tree(recipe.single("adam", 4), "one.yaml")
    assert (list(single.methods), single.seeds) == (["adam"], (4,))
    assert single.resolved()["methods"] == recipe.resolved()["methods"][1:2]


def test_a_resolved_recipe_has_every_default():
    resolved = from_tree(parse(TEXT, "r"), "r.yaml").resolved()
    assert resolved["data"]["partition"] == {"use": "fedsep.data.iid"}
    assert resolved["methods"][0]["batch_size"] == 64
    assert resolved["methods"][0]["schedule"] == {
        "use": "fedsep.learners.cosine",
        "rounds": 10,
        "floor": 0.0,
        "warmup": 0,
    }
    assert resolved["task"] == {"use": "fedsep.tasks.classification"}
    assert resolved["evaluate"]["every"] == 10
    assert resolved["checkpoint"]["every"] == 25
    assert not {"seed", "task"} & set(resolved["methods"][2])


def test_building():
    experiment = build(from_tree(parse(TEXT, "r"), "r.yaml"), 3)
    assert experiment.federation.clients == 4
    assert list(experiment.algorithms) == ["fedavg", "adam", "fedsep_linear"]
    assert all(isinstance(algorithm, FedSep) for algorithm in experiment.algorithms.values())
    assert sum(part.numel() for part in experiment.task.init().values()) == 64 * 8 + 8 + 8 * 10 + 10


def test_the_seed_reaches_data_model_and_method():
    recipe = from_tree(parse(TEXT, "r"), "r.yaml")
    one, same, other = (build(recipe, seed) for seed in (3, 3, 4))
    assert one.federation.partition.hash == same.federation.partition.hash != other.federation.partition.hash
    assert all(torch.equal(a, same.task.init()[n]) for n, a in one.task.init().items())
    assert not torch.equal(one.task.init()["layer1.weight"], other.task.init()["layer1.weight"])
    keys = [experiment.algorithms["fedsep_linear"].codec.key for experiment in (one, same, other)]
    assert torch.equal(keys[0], keys[1])
    assert not torch.equal(keys[0], keys[2])


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A user's package with a model that draws its weights from torch's global state."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "__init__.py").write_text("import torch, os\nfrom mine import broken\n")
    (folder / "broken.py").write_text("def broken():\n    raise ValueError('no luck')\n")
    (folder / "net.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self, shape, classes, width: int = 4, **more):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, classes))\n"
        "        self.more = more\n"
        "def rate(round):\n    return 1.0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield "mine"
    for name in [name for name in sys.modules if name.split(".")[0] == "mine"]:
        del sys.modules[name]


def test_a_users_package(package):
    tree = parse(TEXT, "r")
    tree["model"] = {"use": "mine.net.Net", "width": 6, "extra": [1]}
    tree["methods"][0]["schedule"] = "mine.net.rate"
    with pytest.raises(RecipeError, match="only paths in fedsep may be named; --allow mine permits this one"):
        from_tree(tree, "r.yaml")
    recipe = from_tree(tree, "r.yaml", allow=[package])
    assert recipe.resolved()["methods"][0]["schedule"] == "mine.net.rate"
    before = torch.random.get_rng_state()
    one, same = build(recipe, 3).task.init(), build(recipe, 3).task.init()
    assert all(torch.equal(part, same[name]) for name, part in one.items())
    assert torch.equal(torch.random.get_rng_state(), before)
    assert one["1.weight"].shape == (6, 64)


def test_a_users_error_is_a_message(package):
    tree = parse(TEXT, "r")
    tree["model"] = {"use": "mine.broken.broken"}
    with pytest.raises(RecipeError, match=r"^r.yaml: model: mine.broken.broken raised ValueError: no luck$"):
        build(from_tree(tree, "r.yaml", allow=[package]), 3)


@pytest.mark.parametrize(
    "path",
    [
        "fedsep.tree.torch.hub.load",  # leads out of the package
        "fedsep.train.Path",  # imported into it
        "fedsep.tree.tree_map",
        "fedsep.core.HEADER_BYTES",  # no function
        "fedsep.algorithms",
        "fedsep.recipes.bind._few",
        "fedsep.core.FedSepError.with_traceback",
        "fedsep",
        "fedsep.",
        "os.system",
        "fedsepp.data.digits",
        "",
    ],
)
def test_paths_that_are_refused(path):
    with pytest.raises(UnknownPath):
        resolve(path)


def test_a_path_that_ends_in_a_module_means_its_namesake():
    import fedsep.algorithms.fedavg as found

    assert resolve("fedsep.algorithms.fedavg.fedavg") is resolve("fedsep.algorithms.fedavg")
    assert resolve("fedsep.engines.sequential").__name__ == "sequential"
    assert callable(found)


def test_shipped_recipes_are_found_by_name(tmp_path, monkeypatch):
    found = find("recipes/quickstart.yaml").resolve()
    monkeypatch.chdir(tmp_path)
    assert find("quickstart") == find("quickstart.yaml") == found
    monkeypatch.chdir(found.parent)
    assert find("mnist_cnn/fedavg") == Path("mnist_cnn/fedavg.yaml")
    assert find("mnist_cnn/fedavg").name == "fedavg.yaml"
    with pytest.raises(RecipeError, match=r"did you mean quickstart\?"):
        find("quikstart")
    with pytest.raises(RecipeError, match=r"did you mean mnist_cnn/dgc\?"):
        find("mnist_cnn")


@pytest.mark.parametrize("name", ["quickstart", "mnist_cnn/fedsep_linear", "mnist_cnn/fedsep_linear_k2"])
def test_recipes_of_kept_records_name_the_operator_that_was_the_default_when_they_were_made(name):
    assert read(find(name)).methods["fedsep_linear"].resolved()["operator"] == "fedsep.operators.gaussian"


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(RecipeError, match=r"bad.yaml: cannot be read: 'utf-8'"):
        read(tmp_path / "bad.yaml")
    with pytest.raises(RecipeError, match="cannot be read: No such file or directory"):
        read(tmp_path / "none.yaml")


def test_a_block_where_a_function_is_wanted_sets_its_arguments_or_makes_it():
    """``gaussian`` is the function of p, d and a key that is wanted; ``cosine`` gives the function that is wanted."""
    tree = parse(TEXT, "r")
    asked = {"use": "fedsep.operators.gaussian", "orthonormal": False}
    schedule = {"use": "fedsep.learners.cosine", "rounds": 10}
    method = {"use": "fedsep.algorithms.fedsep_quantised", "p": 20, "schedule": schedule}
    tree["methods"] = [{**method, "name": "a", "operator": asked}, {**method, "name": "b"}]
    recipe = from_tree(tree, "r.yaml")
    one, other = recipe.resolved()["methods"]
    assert one["operator"] == asked
    assert other["operator"] == "fedsep.operators.dct"
    gaussian, dct = (each.codec.space._sketch(0) for each in build(recipe, 3).algorithms.values())
    assert not gaussian.orthonormal
    assert dct.orthonormal
    tree["methods"][0]["operator"] = {**asked, "p": 3, "orthonormale": 1}
    with pytest.raises(RecipeError) as caught:
        from_tree(tree, "r.yaml")
    assert "operator.p: is filled in from where it is used: leave it out (got 3)" in str(caught.value)
    assert "did you mean orthonormal?" in str(caught.value)


def test_a_word_that_a_hint_lists_is_no_path_where_functions_are_taken_too():
    hint = Literal["taylor", "activation"] | Callable[[int], int]
    binder = Binder()
    assert binder.value("taylor", hint, "methods.m.scores", Scope()) == "taylor"
    assert binder.mistakes == []
    assert isinstance(binder.value("fedsep.operators.gaussian", hint, "methods.m.scores", Scope()), Reference)
    binder.value("tailor", hint, "methods.m.scores", Scope())
    assert [mistake.path for mistake in binder.mistakes] == ["methods.m.scores"]
