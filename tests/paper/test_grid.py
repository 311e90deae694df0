"""What is run at which p, with which arguments, and which settings are carried over."""

from __future__ import annotations

import dataclasses

import pytest

from fedsep.core import FedSepError
from fedsep.paper.cells import cells, chosen_by, named, tuning
from fedsep.paper.lines import LINES, Tries
from fedsep.paper.scales import GRID, SCALES
from fedsep.recipes import find, read
from fedsep.recipes.text import parse

SMALL = SCALES["fig2"]["small"]
BY_NAME = {line.name: line for line in LINES}


def blocks():
    return named(parse(find("paper/fig2").read_text(), "fig2")["methods"])


def value(cell, *path):
    return next(change.value for change in cell.changes if change.path == path)


@pytest.mark.parametrize("figure", ["paper/fig2", "paper/fig3"])
def test_the_recipes_are_ordinary_and_hold_every_line(figure):
    recipe = read(find(figure))
    assert list(recipe.methods) == list(BY_NAME)
    assert recipe.data.arguments["validation"] == 5000
    for name, call in recipe.methods.items():
        whole = call.resolved()
        assert (whole["steps"], whole["batch_size"], whole["weighting"]) == (5, 64, "uniform"), name


def test_arguments_follow_p_as_the_tables_say():
    assert dict(BY_NAME["fetchsgd"].at(500)) == {"p": 500, "rows": 1, "k": 2500}
    assert BY_NAME["fetchsgd"].at(20_000)["k"] == 20_000  # at most d = 24,234
    assert [BY_NAME["topk_ef"].at(p)["k"] for p in (10, 500)] == [5, 250]
    assert BY_NAME["topk_ef_values"].at(500) == {"k": 500}
    assert [p for p in GRID if BY_NAME["fedsep_lasso"].where(p)] == [10, 100, 500, 1000]
    assert [p for p in GRID if BY_NAME["fedsep_lasso_srht"].where(p)] == [500, 2000, 5000, 10_000, 20_000]


@pytest.mark.parametrize("figure", ["fig2", "fig3"])
@pytest.mark.parametrize("name", ["smoke", "small", "paper"])
def test_every_cell_is_a_recipe(figure, name):
    scale = SCALES[figure][name]
    for cell in cells(scale, LINES, blocks(), {}):
        recipe = read(find(f"paper/{figure}"), changes=cell.changes)
        assert tuple(recipe.methods) == cell.lines
        assert recipe.rounds == scale.rounds
        for line in cell.lines:
            if cell.p is not None:
                for argument, wanted in BY_NAME[line].at(cell.p).items():
                    assert recipe.methods[line].resolved()[argument] == wanted
    for split in scale.splits:
        cell, grid = tuning(scale, LINES, blocks(), split)
        assert read(find(f"paper/{figure}"), changes=cell.changes).seeds == (scale.tune_seed,)
        assert all(len(axis.partition("=")[2].split(",")) <= 3 for axis in grid)


def test_the_small_scale_is_the_one_that_is_asked_for():
    found = cells(SMALL, LINES, blocks(), {})
    assert {(cell.split, cell.p) for cell in found} == {
        (split, p) for split in ("iid", "k2") for p in (None, 100, 500, 2000, 10_000)
    }
    assert {cell.p: value(cell, "seed") for cell in found} == {
        None: [0, 1, 2], 500: [0, 1, 2], 100: [0], 2000: [0], 10_000: [0]}  # fmt: skip
    assert [cell.lines for cell in found if cell.p is None] == [("fedavg",)] * 2
    srht = [cell.p for cell in found if "fedsep_lasso_srht" in cell.lines and cell.split == "iid"]
    assert sorted(srht) == [500, 2000, 10_000]
    assert {value(cell, "data", "partition")["use"] for cell in found if cell.split == "k2"} == {"fedsep.data.classes"}
    cifar = cells(SCALES["fig3"]["small"], LINES, blocks(), {})
    assert {(cell.split, cell.p) for cell in cifar} == {("iid", None), ("iid", 500), ("iid", 5000)}
    paper = cells(SCALES["fig2"]["paper"], LINES, blocks(), {})
    assert {cell.p for cell in paper} == {None, *GRID}
    assert all(value(cell, "seed") == [0, 1, 2] for cell in paper)


def sweep_of(choices):
    return {
        "chosen": {name: {"settings": {f"methods.{name}.{key}": number}} for name, (key, number) in choices.items()}
    }


def test_what_is_chosen_is_carried_over_and_shared():
    own = {line.name: (line.tries.argument, line.tries.values[-1]) for line in LINES if isinstance(line.tries, Tries)}
    chosen = chosen_by({"iid": sweep_of(own), "k2": sweep_of({**own, "topk_ef": ("lr", 0.05)})}, LINES)
    assert chosen["iid", "topk_ef_values"] == ("lr", 0.2)
    assert chosen["k2", "topk_ef_values"] == ("lr", 0.05)
    for cell in cells(SMALL, LINES, blocks(), chosen):
        for block in value(cell, "methods"):
            argument, picked = chosen[cell.split, block["name"]]
            assert block[argument] == picked
    with pytest.raises(FedSepError, match="no setting of topk_ef could be chosen on iid"):
        chosen_by({"iid": {"chosen": {}}}, [BY_NAME["topk_ef"]])


def test_seeds_that_choose_are_not_shown():
    for scales in SCALES.values():
        for scale in scales.values():
            assert scale.tune_at in scale.ps
            assert all(scale.tune_seed not in scale.seeds_at(p) for p in (*scale.ps, None))


def test_an_argument_of_the_scale_does_not_hide_what_follows_p():
    names = {argument for line in LINES for argument in line.at(50)}
    assert not names & set(SCALES["fig2"]["smoke"].arguments)
    assert dataclasses.replace(SMALL, rounds=7).seeds_at(None) == (0, 1, 2)
