"""``--set`` by name, by index, and what it cannot reach."""

from __future__ import annotations

import pytest

from fedsep.recipes import RecipeError, parse_change
from fedsep.recipes.changes import apply_changes
from fedsep.recipes.names import method_names

TREE = {
    "rounds": 3,
    "cohort": None,
    "data": {"use": "d", "partition": {"use": "p", "k": 2}},
    "methods": [{"use": "m.fedavg"}, {"use": "m.fedavg"}, {"use": "m.fedsep", "name": "mine"}, {"use": "m.fedavg"}],
}


def changed(*texts):
    return apply_changes(TREE, [parse_change(text) for text in texts])[0]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("rounds=5", lambda t: t["rounds"] == 5),
        ("methods.fedavg.lr=1e-2", lambda t: t["methods"][0]["lr"] == 0.01),
        ("methods.fedavg_2.lr=0.2", lambda t: t["methods"][1]["lr"] == 0.2),
        ("methods.fedavg_3.lr=0.3", lambda t: t["methods"][3]["lr"] == 0.3),
        ("methods.mine.p=7", lambda t: t["methods"][2]["p"] == 7),
        ("methods.1.lr=0.4", lambda t: t["methods"][1]["lr"] == 0.4),
        ("cohort.capabilities=[1, 0.5]", lambda t: t["cohort"] == {"capabilities": [1, 0.5]}),
        ("data.partition={use: q}", lambda t: t["data"]["partition"] == {"use": "q"}),
        ("data.partition.k=3", lambda t: t["data"]["partition"]["k"] == 3),
        ("new.deep.key=v", lambda t: t["new"] == {"deep": {"key": "v"}}),
        ("rounds=", lambda t: t["rounds"] is None),
    ],
)
def test_reaches(text, found):
    assert found(changed(text))


def test_the_original_is_as_it_was():
    changed("methods.mine.p=7", "data.partition.k=9")
    assert "p" not in TREE["methods"][2]
    assert TREE["data"]["partition"]["k"] == 2


def test_the_last_change_counts():
    assert changed("rounds=5", "rounds=6")["rounds"] == 6


def test_a_single_method_has_three_names():
    tree = {"methods": [{"use": "m.fedavg"}]}
    for path in ("method", "methods.fedavg", "methods.0"):
        assert apply_changes(tree, [parse_change(f"{path}.lr=1")])[0]["methods"][0]["lr"] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rounds.x=1", "--set rounds.x=1: rounds is a single value, so nothing can be set inside it (got 3)"),
        (
            "methods.fedavgg.lr=1",
            "--set methods.fedavgg.lr=1: methods has fedavg, fedavg_2, mine, fedavg_3, but not fedavgg "
            "(did you mean fedavg?)",
        ),
        (
            "methods.4.lr=1",
            "--set methods.4.lr=1: methods has fedavg, fedavg_2, mine, fedavg_3, but not 4",
        ),
        ("rounds", "--set: must be PATH=VALUE, as in methods.fedavg.lr=0.05 (got 'rounds')"),
        ("a..b=1", "--set: must be PATH=VALUE, as in methods.fedavg.lr=0.05 (got 'a..b=1')"),
        ("rounds=[1", "--set rounds=[1: line 1, column 3: expected ',' or ']', but got '<stream end>', "
         "while parsing a flow sequence"),
    ],
)  # fmt: skip
def test_does_not_reach(text, message):
    with pytest.raises(RecipeError) as error:
        raise RecipeError("r.yaml", apply_changes(TREE, [parse_change(text)]).mistakes)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("blocks", "names"),
    [
        ([{"use": "a.f"}, {"use": "b.f"}, {"use": "c.f"}], ["f", "f_2", "f_3"]),
        ([{"use": "a.f"}, {"use": "a.f", "name": "f_2"}, {"use": "a.f"}], ["f", "f_2", "f_3"]),
        ([{"name": "x y", "use": "a.f"}], ["f"]),
        ([{}, 3], ["0", "1"]),
    ],
)
def test_names_of_methods(blocks, names):
    assert method_names(blocks) == names
