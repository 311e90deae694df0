"""Real sites, all but the network between: recipes as text, data of their own, and nothing that they did not allow."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsep.calibrating import of_samples
from fedsep.core import FedSepError, Samples
from fedsep.engines import sequential
from fedsep.flower.announce import announcement
from fedsep.flower.evaluating import columns
from fedsep.flower.grammar import grammar
from fedsep.flower.here import PLACES, Here, own_block
from fedsep.flower.limits import Limits
from fedsep.flower.rules import PARTS, Rules, parts
from fedsep.flower.versions import facts
from fedsep.models.calibration import calibrated
from fedsep.recipes import build, find, from_tree, parse_change, read
from fedsep.recipes.resolve import public_names, resolve
from fedsep.recipes.shipped import names
from fedsep.recipes.text import dump, parse
from fedsep.train import Stop, fit

pytest.importorskip("flwr", reason="Flower is not installed: pip install 'fedsep[flower]'")

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from fedsep.engines.flower import Flower
from fedsep.flower.local import LocalGrid
from fedsep.flower.reception import Reception, reception
from fedsep.flower.records import from_records, to_records

RECIPE = """
rounds: 4
data: {use: fedsep.data.sites, shape: [3], classes: 2, clients: 3}
model: {use: fedsep.models.mlp, hidden: [4]}
method: {use: fedsep.algorithms.topk_ef, k: 5, lr: 0.1, steps: 2, batch_size: 4}
evaluate: {every: 2}
checkpoint: {every: 2}
"""
OWN = "{use: fedsep.data.npz, path: own.npz, clients: %d}"


def folder(path: Path, seed: int, clients: int, shape=(3,), classes=2) -> Path:
    """A site's data folder."""
    path.mkdir()
    rng = np.random.default_rng(seed)
    y = np.arange(40) % classes
    np.savez(path / "own.npz", x_train=rng.normal(size=(40, *shape)) + y.reshape(-1, *[1] * len(shape)), y_train=y)
    (path / "data.yaml").write_text(OWN % clients)
    return path


def sites(tmp_path, **changes) -> dict[int, Reception]:
    """Two sites, with one and two clients."""
    rules = [
        Rules(folder(tmp_path / "a", 1, 1), (1,), name="a"),
        Rules(folder(tmp_path / "b", 2, 2), (0, 2), name="b"),
    ]
    return {n + 1: Reception(replace(own, **changes), tmp_path / f"state{n}") for n, own in enumerate(rules)}


def run(receptions, text=RECIPE, out=None, **changes):
    """A server's run over sites, its recipe read as the server reads it."""
    recipe = from_tree(parse(text, "recipe"), "recipe")
    experiment = build(recipe, 0)
    [(name, algorithm)] = experiment.algorithms.items()
    single = recipe.single(name, 0)
    engine = Flower(grid=LocalGrid(receptions), announcement=announcement(single), timeout=5, wait=0)
    given = {**recipe.options(), "rounds": recipe.rounds, "recipe": single, **changes}
    return fit(algorithm, experiment.task, experiment.federation, engine=engine, out=out, name=name, **given)


class Both:
    """What the sites have, in one place: for a run of one process to be compared with."""

    clients, validation, test, shape, classes, name = 3, None, None, (3,), 2, "both"

    def __init__(self, parts):
        self.parts = parts

    def shard(self, client):
        return next(part for part in self.parts if client in part.present).shard(client)


def gathered(receptions, text=RECIPE) -> Both:
    told = announcement(from_tree(parse(text, "recipe"), "recipe").single("topk_ef", 0))["recipe"]
    return Both([each.rules.experiment(each.rules.admitted(told)).federation for each in receptions.values()])


def test_a_run_over_sites_with_data_of_their_own_is_that_of_one_process(tmp_path):
    receptions = sites(tmp_path)
    found = run(receptions, out=tmp_path / "out")
    experiment = build(from_tree(parse(RECIPE, "recipe"), "recipe"), 0)
    expected = fit(
        experiment.algorithms["topk_ef"], experiment.task, gathered(receptions), rounds=4, engine=sequential()
    )
    assert all(torch.equal(found.params[name], part) for name, part in expected.params.items())
    assert [row["replies"] for row in found.metrics] == [3, 3, 3, 3]
    for site in receptions.values():  # the model that the run ends with
        [file] = site.folder.glob("*/topk_ef.safetensors")
        assert file.read_bytes() == (found.folder / "model.safetensors").read_bytes()


def test_sites_report_counts_and_metrics_and_what_that_takes_is_counted(tmp_path):
    receptions = sites(tmp_path)
    found = run(receptions)
    task, federation = build(from_tree(parse(RECIPE, "recipe"), "recipe"), 0).task, gathered(receptions)
    tests = [federation.shard(client).test for client in range(3)]
    x, y = (torch.cat([getattr(part.all(), name) for part in tests]) for name in ("x", "y"))
    expected = task.metrics(task.predict(found.params, x), y)
    last = found.metrics[-1]
    assert last["test_accuracy"] == pytest.approx(expected["accuracy"], abs=1e-12)
    assert last["test_loss"] == pytest.approx(expected["loss"], abs=1e-12)
    assert last["evaluated_clients"] == 3
    assert last["evaluation_bytes_down"] > 2 * 8 * sum(part.numel() for part in found.params.values())
    assert last["evaluation_bytes_up"] > 0
    assert "test_accuracy" not in found.metrics[0]
    assert found.summary["metrics"]["accuracy"]["last"] == last["test_accuracy"]


STATIC = RECIPE.replace("shape: [3]", "shape: [1, 8, 8]").replace(
    "{use: fedsep.models.mlp, hidden: [4]}", "{use: fedsep.models.resnet, blocks: [1], width: 4}"
)


def test_static_statistics_are_measured_at_the_sites_and_added_up(tmp_path):
    rules = [Rules(folder(tmp_path / f"{n}", n, 1 + n, (1, 8, 8)), ((0,), (1, 2))[n], name=f"{n}") for n in (0, 1)]
    receptions = {n + 1: Reception(each, tmp_path / f"state{n}") for n, each in enumerate(rules)}
    found = run(receptions, STATIC)
    federation = gathered(receptions, STATIC)
    task = build(from_tree(parse(STATIC, "recipe"), "recipe"), 0).task
    each = [of_samples(federation.shard(client).train, 667) for client in range(3)]
    params = calibrated(task.model, found.params, [batch for batches in each for batch in batches])
    tests = [federation.shard(client).test for client in range(3)]
    x, y = (torch.cat([getattr(part.all(), name) for part in tests]) for name in ("x", "y"))
    assert found.metrics[-1]["test_loss"] == pytest.approx(task.metrics(task.predict(params, x), y)["loss"], abs=1e-9)


def test_a_server_that_is_stopped_goes_on_with_its_sites(tmp_path):
    def stop(event):
        if event.round == 3:
            raise KeyboardInterrupt

    receptions = sites(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(receptions, out=tmp_path / "out", watch=stop)
    again = {node: reception(each.save()) for node, each in receptions.items()}  # programs of their own
    found = run(again, out=tmp_path / "out", resume=True)
    (tmp_path / "other").mkdir()
    expected = run(sites(tmp_path / "other"))
    assert all(torch.equal(found.params[name], part) for name, part in expected.params.items())


def test_a_model_that_is_larger_than_an_answer_may_be_is_told_before_the_first_round(tmp_path, caplog):
    receptions = sites(tmp_path)
    run(receptions, rounds=1)
    assert "engine.largest" not in caplog.text
    recipe = from_tree(parse(RECIPE, "recipe"), "recipe")
    built, told = build(recipe, 0), announcement(recipe.single("topk_ef", 0))
    engine = Flower(grid=LocalGrid(receptions), announcement=told, timeout=5, wait=0, largest=200)
    fit(built.algorithms["topk_ef"], built.task, built.federation, rounds=1, engine=engine)
    assert "models of 2 clients at one site take 416 bytes, and a site's answer may have 200" in caplog.text


def test_a_site_writes_down_what_it_received_ran_and_sent(tmp_path):
    receptions = sites(tmp_path)
    run(receptions)
    lines = [json.loads(line) for line in (tmp_path / "state1/audit.jsonl").read_text().splitlines()]
    assert [line["received"] for line in lines] == [
        "hello", "round", "round", "evaluate", "round", "round", "evaluate", "model",
    ]  # fmt: skip
    first = lines[1]
    assert (first["round"], first["run"], sorted(first["sent"])) == (1, lines[0]["run"], ["0", "2"])
    assert first["letter_bytes"] > 0
    assert first["sent"]["0"]["payload_bytes"] == 5 * 12
    assert first["sent"]["0"]["steps"] == 2
    assert "payload" not in first["sent"]["0"]
    assert (tmp_path / "state1/audit.jsonl").stat().st_mode & 0o077 == 0


HOSTILE = {
    "use: os": ("{use: os.system, command: ls}", "only paths in fedsep may be named"),
    "through fedsep": ("{use: fedsep.tree.torch.hub.load}", "may be named|no function or class|there is no"),
    "writes files": ("{use: fedsep.files.write_file, path: x, data: y}", "not among the parts|gives|must"),
    "reads files": ("{use: fedsep.algorithms.topk_ef, k: 5, server: {use: fedsep.data.npz, path: /a}}", "server"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_recipe_is_refused_by_the_site(tmp_path, name):
    method, reason = HOSTILE[name]
    tree = parse(RECIPE, "recipe") | {"method": parse(method, "method")}
    with pytest.raises(FedSepError, match=reason):
        sites(tmp_path)[1].rules.admitted(dump(tree))


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        ("{use: fedsep.data.npz, path: /etc/passwd, clients: 3}", "data.path: is for the site to say"),
        ("{use: fedsep.data.mnist, clients: 3, data_dir: /etc}", "data.data_dir: is for the site to say"),
        ("{use: fedsep.data.mnist, clients: 3, download: true}", "data.download: is not for the server to ask"),
        ("{use: fedsep.data.mnist, clients: 3, public: {use: fedsep.data.csv, path: a.csv, target: b}}",
         "data.public.path: is for the site to say"),
    ],
)  # fmt: skip
def test_a_recipe_that_names_places_at_the_site_is_refused(tmp_path, block, reason):
    tree = parse(RECIPE, "recipe") | {"data": parse(block, "data")}
    with pytest.raises(FedSepError, match=reason):
        sites(tmp_path)[1].rules.admitted(dump(tree))


def test_a_model_in_a_file_of_the_site_is_not_for_the_server_to_open(tmp_path):
    tree = parse(RECIPE, "recipe") | {"model": {"use": "fedsep.models.load", "file": "/etc/passwd"}}
    with pytest.raises(FedSepError, match=r"model\.file: is for the site to say, not for the server"):
        sites(tmp_path)[1].rules.admitted(dump(tree))


def test_every_argument_that_names_a_place_is_for_the_site_to_say():
    named = [
        (path, name)
        for package in PARTS
        for path in public_names(f"fedsep.{package}")
        for name, argument in inspect.signature(resolve(path)).parameters.items()
        if "Path" in str(argument.annotation)
    ]
    assert len(named) > 5
    assert [(path, name) for path, name in named if name not in PLACES] == []


def shipped():
    """Every method of every recipe that comes with fedsep and trains something."""
    for name in names():
        if name.startswith("theory/"):
            continue
        recipe = read(find(name))
        yield from ((f"{name}: {method}", recipe.single(method, recipe.seeds[0])) for method in recipe.methods)


def test_every_shipped_recipe_may_be_run_over_sites():
    refused = {}
    for name, single in shipped():
        try:
            Rules(Path()).admitted(announcement(single)["recipe"])
        except FedSepError as error:
            refused[name] = str(error)
    assert refused == {}


DISTRIBUTED = """method={use: fedsep.privacy.distributed, clip: 1.0, noise: 1.0, replies: 4, fewest: 3,
    method: {use: fedsep.algorithms.fedavg, weighting: uniform, lr: 0.1, steps: 1, batch_size: 4}}"""


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("private/fedavg", ["methods.fedavg.replies=4"]),
        ("digits/implicit", []),
        ("private/fedavg", [f"methods=[{DISTRIBUTED.removeprefix('method=')}]", "stop.min_replies=3"]),
    ],
)
def test_shipped_recipes_of_less_common_parts_run_over_sites(tmp_path, name, more):
    changes = ("data={use: fedsep.data.digits, clients: 4}", "cohort={}", "engine={use: fedsep.engines.flower}")
    recipe = read(find(name), changes=list(map(parse_change, [*changes, *more])))
    method, seed = list(recipe.methods)[-1], recipe.seeds[0]
    single = recipe.single(method, seed)
    receptions = {n: Reception(Rules(tmp_path, part), tmp_path / f"s{n}") for n, part in ((1, (0, 2)), (2, (1, 3)))}
    engine = Flower(grid=LocalGrid(receptions), announcement=announcement(single), timeout=60, wait=0)
    built = build(recipe, seed)
    found = fit(
        built.algorithms[method],
        built.task,
        built.federation,
        rounds=1,
        seed=seed,
        engine=engine,
        stop=recipe.options()["stop"],
    )
    assert [row["replies"] for row in found.metrics] == [4]


PRIVATE = """{use: fedsep.privacy.central, clip: 0.5, noise: 1.0, replies: 2, secret: 4711,
    method: {use: fedsep.algorithms.fedavg, weighting: uniform, lr: 0.1, steps: 1, batch_size: 4}}"""


def test_the_secret_of_the_servers_noise_does_not_reach_a_site(tmp_path):
    text = RECIPE.replace(RECIPE.splitlines()[4], f"method: {PRIVATE}")
    single = from_tree(parse(text, "recipe"), "recipe").single("central", 0)
    assert single["method"]["secret"] == 4711
    told = announcement(single)
    assert "4711" not in str(told)
    assert parse(told["recipe"], "told")["method"]["secret"] is None
    assert told["run"] == announcement(single | {"method": single["method"] | {"secret": 12}})["run"]
    assert sites(tmp_path)[1].rules.admitted(told["recipe"])


@pytest.mark.parametrize("part", ["distributed, fewest: 2, replies: 2", "dp_sgd, batch_size: 4", "central, replies: 2"])
def test_a_secret_that_is_sent_is_refused(tmp_path, part):
    steps = "steps: 1" if "dp_sgd" in part else "steps: 1, batch_size: 4"
    method = f"""{{use: fedsep.privacy.{part}, clip: 1.0, noise: 1.0, secret: 3,
        method: {{use: fedsep.algorithms.fedavg, weighting: uniform, lr: 0.1, {steps}}}}}"""
    tree = parse(RECIPE, "recipe") | {"method": parse(method, "method")}
    with pytest.raises(FedSepError, match=r"methods\.\w+\.secret: is none once it is sent"):
        sites(tmp_path)[1].rules.admitted(dump(tree))


def test_a_function_that_reads_files_is_not_handed_over(tmp_path):
    method = "{use: fedsep.algorithms.fedsep_implicit, inner: fedsep.models.load, lr: 0.1, steps: 1, batch_size: 4}"
    tree = parse(RECIPE, "recipe") | {"method": parse(method, "method")}
    with pytest.raises(FedSepError, match=r"inner\.file: is for the site to say"):
        sites(tmp_path)[1].rules.admitted(dump(tree))


def test_a_builtin_function_without_a_signature_may_be_handed_over(tmp_path):
    method = "{use: fedsep.algorithms.fedsep_implicit, inner: torch.relu, lr: 0.1, steps: 1, batch_size: 4}"
    text = dump(parse(RECIPE, "recipe") | {"method": parse(method, "method")})
    rules = replace(sites(tmp_path)[1].rules, allow=("torch",))
    assert rules.admitted(text).methods["fedsep_implicit"].arguments["inner"].function is torch.relu


def test_packages_of_the_site_itself_are_allowed_by_the_site_alone(tmp_path, monkeypatch):
    (tmp_path / "ours_at_home.py").write_text(
        "from fedsep import algorithms\n"
        "def mine(task: object, *, lr: float = 0.1) -> 'fedsep.FedSep':\n"
        "    return algorithms.fedavg(task, lr=lr, steps=1, batch_size=4)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    text = dump(parse(RECIPE, "recipe") | {"method": {"use": "ours_at_home.mine"}})
    rules = sites(tmp_path)[1].rules
    with pytest.raises(FedSepError, match="only paths in fedsep may be named"):
        rules.admitted(text)
    assert replace(rules, allow=("ours_at_home",)).admitted(text).methods["mine"].use == "ours_at_home.mine"


def test_refusals_reach_the_server_and_the_sites_log(tmp_path):
    receptions = sites(tmp_path, limits=Limits(steps=1))
    with pytest.raises(FedSepError, match="this site gives 1 local steps"):
        run(receptions, stop=Stop(patience=1))
    told = announcement(from_tree(parse(RECIPE, "recipe"), "recipe").single("topk_ef", 0))
    for changes, reason in (
        ({"recipe": "[1, 2"}, "server's recipe"),
        ({"recipe": "x" * (2 << 20)}, "characters"),
        ({"run": "../../etc"}, "of no run"),
        ({"kind": "round", "run": "0" * 16, "seats": []}, "does not know the run"),
        ({"facts": {"letters": 99}}, "letters have the form 99"),
        ({"facts": facts() | {"recipes": "0" * 16}}, "recipes mean something else to it"),
    ):
        answer = receptions[1].answer({"kind": "hello", "facts": facts(), **told, **changes})
        assert reason in answer["problem"], answer
        last = json.loads((tmp_path / "state0/audit.jsonl").read_text().splitlines()[-1])
        assert reason in last["refused"]


def test_another_torch_is_told_at_both_ends(tmp_path, monkeypatch, caplog):
    def at_the_server():
        return facts() | {"torch": "9.9"}

    monkeypatch.setattr("fedsep.flower.roster.facts", at_the_server)
    receptions = sites(tmp_path)
    found = run(receptions)
    assert [row["replies"] for row in found.metrics] == [3, 3, 3, 3]
    assert "site a: it has torch" in caplog.text
    assert "not '9.9'" in caplog.text
    hello, first, *_ = (json.loads(line) for line in (tmp_path / "state0/audit.jsonl").read_text().splitlines())
    assert hello["warning"].startswith("the server: it has torch '9.9'")
    assert "warning" not in first


def test_the_digest_of_the_grammar_is_of_names_and_defaults(monkeypatch):
    before = grammar()
    grammar.cache_clear()
    assert grammar() == before
    own = parts()

    def changed(lr: float = 0.1) -> None:
        """Another default."""

    monkeypatch.setattr("fedsep.flower.rules.parts", lambda: own | {"fedsep.algorithms.fedavg": changed})
    grammar.cache_clear()
    assert grammar() != before
    grammar.cache_clear()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (
            "{use: fedsep.data.sites, shape: [4], classes: 2, clients: 3}",
            r"shape is \(3,\) here and \(4,\) in the recipe",
        ),
        ("{use: fedsep.data.sites, shape: [3], classes: 5, clients: 3}", "classes is 2 here and 5"),
        ("{use: fedsep.data.sites, shape: [3], classes: 2, clients: 1}", "--clients must be below 1"),
        ("{use: fedsep.data.digits, clients: 3}", "must say data: {use: fedsep.data.sites"),
    ],
)
def test_data_that_are_not_of_the_recipes_form_are_refused(tmp_path, data, reason):
    rules = sites(tmp_path)[1].rules
    with pytest.raises(FedSepError, match=reason):
        rules.experiment(rules.admitted(dump(parse(RECIPE, "recipe") | {"data": parse(data, "data")})))


TABLE = "{use: fedsep.data.csv, path: patients.csv, target: outcome, clients: 1}"


def hospital(path: Path, rows: int, block: str = TABLE) -> Path:
    """A site's folder with a table of so many rows."""
    path.mkdir()
    table = [f"{row % 7},{row % 5},{row % 3},{'yes' if row % 7 > 3 else 'no'}" for row in range(rows)]
    (path / "patients.csv").write_text("\n".join(["age,dose,weight,outcome", *table]))
    (path / "data.yaml").write_text(block)
    return path


def test_a_sites_paths_are_in_its_own_folder_whatever_lies_elsewhere(tmp_path, monkeypatch):
    here, places = hospital(tmp_path / "here", 10), ("a", "b")
    folders = [hospital(tmp_path / name, rows) for name, rows in zip(places, (50, 70), strict=True)]
    monkeypatch.chdir(here)
    monkeypatch.setenv("FEDSEP_DATA", str(here))
    for folder, rows in zip(folders, (50, 70), strict=True):
        rules = Rules(folder, (0,))
        found = rules.experiment(rules.admitted(RECIPE)).federation.shard(0)
        assert found.train.size + found.test.size == rows
        (folder / "patients.csv").unlink()
        with pytest.raises(FedSepError, match=r"data\.yaml: data\.path: must be a file .*/[ab]/patients\.csv") as error:
            rules.experiment(rules.admitted(RECIPE))
        assert "Looked in" not in str(error.value)


def test_places_in_a_sites_block_are_in_its_folder_unless_they_are_absolute(tmp_path):
    block = "{use: fedsep.data.npz, path: a.npz, public: {use: fedsep.data.folder, path: /b}, data_dir: c}"
    (tmp_path / "data.yaml").write_text(block)
    found = own_block(tmp_path, ()).arguments
    assert (found["path"], found["data_dir"]) == (str(tmp_path / "a.npz"), str(tmp_path / "c"))
    assert found["public"].arguments["path"] == "/b"


def test_a_data_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "data.yaml").write_bytes(b"{use: fedsep.data.npz, path: \xff\xfe}")
    with pytest.raises(FedSepError, match=r"data\.yaml: cannot be read: it is not UTF-8"):
        own_block(tmp_path, ())


def test_data_that_are_not_there_are_told_with_the_options_that_a_site_has(tmp_path, monkeypatch):
    for name, folder in (("FEDSEP_DATA", tmp_path), ("XDG_CACHE_HOME", tmp_path)):
        monkeypatch.setenv(name, str(folder))
    monkeypatch.setattr("fedsep.data.search._beside", list)
    rules, text = (
        Rules(tmp_path, (0,)),
        RECIPE.replace("{use: fedsep.data.sites, shape: [3], classes: 2, clients: 3}", "%s"),
    )
    with pytest.raises(FedSepError, match=r"the server's recipe: data: the data set mnist was not found") as error:
        rules.experiment(rules.admitted(text % "{use: fedsep.data.mnist, clients: 3}"))
    assert "--data-dir" not in str(error.value)
    assert "download:" not in str(error.value)  # the site has no file to say it in
    assert "To get it: put the parquet files" in str(error.value)
    assert "(--data):" in str(error.value)
    (tmp_path / "data.yaml").write_text("{use: fedsep.data.mnist, clients: 1}")
    with pytest.raises(FedSepError, match=r"data\.yaml: data: the data set mnist was not found") as error:
        rules.experiment(rules.admitted(RECIPE))
    assert "--download" not in str(error.value)
    assert "say download: true in data.yaml, which needs" in str(error.value)


def test_a_site_without_data_says_so(tmp_path):
    rules = Rules(tmp_path, (0,))
    with pytest.raises(FedSepError, match=r"this site has no data: .* no data\.yaml"):
        rules.experiment(rules.admitted(RECIPE))


def test_a_data_set_that_all_sites_deal_alike_is_shared_out_by_numbers(tmp_path):
    text = RECIPE.replace(
        "{use: fedsep.data.sites, shape: [3], classes: 2, clients: 3}", "{use: fedsep.data.digits, clients: 3}"
    )
    receptions = {n: Reception(Rules(tmp_path, part), tmp_path / f"s{n}") for n, part in ((1, (0, 2)), (2, (1,)))}
    found = run(receptions, text, rounds=2)
    experiment = build(from_tree(parse(text, "recipe"), "recipe"), 0)
    expected = fit(experiment.algorithms["topk_ef"], experiment.task, experiment.federation, rounds=2)
    assert all(torch.equal(found.params[name], part) for name, part in expected.params.items())
    assert found.metrics[-1]["test_accuracy"] == expected.metrics[-1]["test_accuracy"]


def test_here_is_only_what_is_here():
    class Data:
        shape, clients = (3,), 2

        def shard(self, client):
            return type("Shard", (), {"train": Samples(torch.tensor([client]), torch.tensor([client]))})

    here = Here(Data(), {7: 0, 9: 1}, 12)
    assert (here.clients, here.present, here.shape) == (12, (7, 9), (3,))
    assert here.shard(9).train.x.item() == 1
    with pytest.raises(FedSepError, match="client 0 is not at this site"):
        here.shard(0)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from(["tensor", "dict", "named", "cpu", "fedsep.core:Ctx"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "tree"]), inner, max_size=2),
    max_leaves=12,
)
ARRAYS = st.lists(
    st.tuples(
        st.sampled_from(["float32", "int64", "bool", "qint8", "quint4x2", "complex64", "object", "nothing"]),
        st.lists(st.integers(-1, 3) | st.just(1 << 62), max_size=3),
        st.sampled_from(["fedsep.tensor.v1", "numpy.ndarray", ""]),
        st.binary(max_size=16),
    ),
    max_size=2,
)


@settings(max_examples=200)
@given(tree=JSON, arrays=ARRAYS)
def test_whatever_comes_it_is_a_letter_or_it_is_refused(tree, arrays):
    tensors = ArrayRecord({str(i): Array(kind, tuple(shape), *rest) for i, (kind, shape, *rest) in enumerate(arrays)})
    records = RecordDict({"tensors": tensors, "letter": ConfigRecord({"tree": json.dumps(tree)})})
    try:
        letter = from_records(records)
    except FedSepError:
        return
    to_records(letter)  # it is made of plain values and tensors, and of nothing else


def test_one_number_that_is_seen_many_times_is_refused():
    record = ArrayRecord({"0": Array("float32", (1,), "fedsep.tensor.v1", b"1234")})
    tree = '["tensor",0,"cpu",[4611686018427387904],[0]]'
    with pytest.raises(FedSepError, match="a shape of 4611686018427387904 numbers for 1"):
        from_records(RecordDict({"tensors": record, "letter": ConfigRecord({"tree": tree})}))


@pytest.mark.parametrize(
    "part",
    [
        {},
        {"examples": 10**400, "metrics": {"loss": 1.0}},
        {"examples": 3, "metrics": {"loss": "low"}},
        {"examples": 3, "metrics": {"loss" * 99: 1.0}},
        {"examples": 3, "metrics": {0: 1.0}},
        {"examples": 3, "metrics": {f"m{i}": 1.0 for i in range(99)}},
        7,
    ],
)
def test_metrics_that_cannot_be_are_left_out(part, caplog):
    told = {0: {"test": {"examples": 4, "metrics": {"loss": 2.0}}}, 1: {"test": part}}
    assert columns(told) == {"test_loss": 2.0}
    assert "the metrics of client 1 are left out" in caplog.text


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1.7e308])
def test_metrics_that_are_not_finite_are_left_out(value):
    told = {0: {"test": {"examples": 4, "metrics": {"loss": 2.0, "accuracy": value}}}}
    assert columns(told) == {"test_loss": 2.0}


def test_a_site_tells_of_its_own_clients_only(tmp_path, monkeypatch):
    receptions, answer = sites(tmp_path), Reception.answer

    def lying(self, letter, size=0):
        told = answer(self, letter, size)
        if self.rules.name == "a" and letter["kind"] == "evaluate":  # which has client 1
            of_others = {"test": {"examples": 1 << 50, "metrics": {"loss": 1e9}}}
            told["clients"] |= {0: of_others, 2: of_others, "x": {}, 77: {}}
        return told

    expected = run(receptions)
    monkeypatch.setattr(Reception, "answer", lying)
    (tmp_path / "again").mkdir()
    found = run(sites(tmp_path / "again"))
    for name in ("test_loss", "evaluated_clients"):
        assert found.metrics[-1][name] == expected.metrics[-1][name]


def test_types_that_could_end_the_process_are_refused():
    array = Array("qint8", (4,), "fedsep.tensor.v1", b"1234")
    records = RecordDict({"tensors": ArrayRecord({"0": array}), "letter": ConfigRecord({"tree": '["tensor",0,"cpu"]'})})
    with pytest.raises(FedSepError, match="not a letter"):
        from_records(records)
    truth = Array("bool", (3,), "fedsep.tensor.v1", b"\x00\x05\x01")
    records["tensors"] = ArrayRecord({"0": truth})
    assert from_records(records).view(torch.uint8).tolist() == [0, 1, 1]
