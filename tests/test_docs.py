"""What the documentation shows can be run as it stands, and names what there is."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: str, language: str = "python") -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


def run(script: str, folder: Path) -> str:
    """What a script prints; in this process, which has imported already what takes longer than the script."""
    file = folder / "script.py"
    file.write_text(script, encoding="utf-8")
    torch.set_default_dtype(torch.float32)  # as a reader has it; the fixture for every test sets it back
    with contextlib.redirect_stdout(io.StringIO()) as told, contextlib.chdir(folder):
        runpy.run_path(str(file), run_name="__main__")
    return told.getvalue()


def run_alone(script: str, folder: Path) -> str:
    """What a script prints in a process of its own."""
    file = folder / "script.py"
    file.write_text(script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(file)], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_fedavg_of_the_concepts_page_runs_and_learns_in_25_lines(tmp_path):
    script = blocks("docs/concepts.md")[0]
    assert sum(bool(line.strip()) for line in script.splitlines()) <= 25
    found = re.search(r"test accuracy (0\.\d+)", run(script, tmp_path))
    assert found is not None
    assert float(found[1]) > 0.85


def test_python_example_runs_and_is_the_same_everywhere(tmp_path):
    [script] = blocks("README.md")
    assert blocks("docs/quick-start.md") == [script]
    assert "rounds=50" in script
    assert len(run_alone(script.replace("rounds=50", "rounds=2"), tmp_path).splitlines()) == 2


def test_skeleton_keeps_the_laws_trains_and_is_caught_with_a_wrong_sign(tmp_path):
    skeleton, law = blocks("docs/adding-an-algorithm.md")[:2]
    wrong = skeleton.replace("tree.sub(body, x)", "tree.sub(x, body)").partition("\n\n\n")[2]
    assert "tree.sub(x, body)" in wrong
    use = """
test_personal_head()
torch.set_default_dtype(torch.float32)
from fedsep import fit, testing
federation = data.digits(clients=10, partition=data.classes(2))
task = tasks.classification(models.mlp(federation.shape, federation.classes))
run = fit(personal_head(task, head="layer2"), task, federation, rounds=3, seed=0)
assert run.summary["bytes"] == {"up": 4 * 65 * 64, "down": 4 * 65 * 64}, run.summary["bytes"]
"""
    caught = """
try:
    test_personal_head()
except testing.LawBroken:
    print("caught")
"""
    assert run(f"{skeleton}\n{law}\n{use}\n{wrong}\n{caught}", tmp_path) == "caught\n"


def test_skeleton_of_an_operator_keeps_the_laws(tmp_path):
    skeleton, law = blocks("docs/writing-an-operator.md")
    wrong = skeleton.replace(".conj()", "")
    caught = "\ntry:\n    check_operator(circulant)\nexcept AssertionError:\n    print('caught')"
    assert wrong != skeleton
    rest = wrong.partition("\n\n\n")[2]
    assert run(f"{skeleton}\n{law}\n{rest}\n{caught}", tmp_path) == "caught\n"


def test_a_network_of_the_users_own_is_sliced_by_the_sub_models_page(tmp_path):
    own, declared = blocks("docs/sub-models.md")
    same = "assert {n: a for n, a in declared.axes.items() if a[0]} and declared.sizes == {'stream': 16}"
    said = run(f"{own.replace('rounds=20', 'rounds=2')}\n{declared}\n{same}", tmp_path).splitlines()
    assert said[0] == "{'stem': 16}"
    assert 0 < float(said[1]) < 1


def test_every_method_has_a_page_made_from_its_docstring():
    from fedsep import algorithms

    pages = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "docs/api/methods").glob("*.md")}
    assert set(pages) == set(algorithms.__all__)
    listed = (ROOT / "docs/api/algorithms.md").read_text(encoding="utf-8")
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for name, page in pages.items():
        assert f"::: fedsep.algorithms.{name}.{name}\n" in page
        assert f"(methods/{name}.md)" in listed
        assert f"api/methods/{name}.md\n" in navigation


def test_recipes_page_shows_a_recipe_that_can_be_read(tmp_path):
    from fedsep.recipes import build, read

    recipe, weak, text, faults, robust = blocks("docs/recipes.md", "yaml")
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe, encoding="utf-8")
    assert list(read(file).methods) == ["fedavg", "fedsep_linear"]
    file.write_text(f"rounds: 1\nmodel: {{use: fedsep.models.mlp}}\n{weak}", encoding="utf-8")
    built = build(read(file), 0)
    assert list(built.algorithms) == ["feddst", "feddf"]
    assert built.algorithms["feddf"].view.zoo.levels == (1.0, 0.5, 0.25)
    (tmp_path / "letter.txt").write_text("Dear reader, this is a letter. " * 200, encoding="utf-8")
    file.write_text(f"rounds: 1\nmethod: {{use: fedsep.algorithms.fedavg}}\n{text}".replace("letters", str(tmp_path)))
    assert build(read(file), 0).federation.shape == (128,)
    start = recipe[: recipe.index("methods:")]
    file.write_text(start + robust + faults, encoding="utf-8")
    assert read(file).engine.build({}).faults.drop == 0.2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_nothing_is_loaded_from_the_network(page):
    assert re.findall(r"!\[[^]]*\]\(https?:|<(?:script|img|link|iframe)\b", page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_row_of_a_table_has_as_many_cells_as_its_head(page):
    wanted = None
    for line in page.read_text(encoding="utf-8").splitlines():
        bars = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else None
        assert bars is None or wanted is None or bars == wanted, line
        wanted = bars if wanted is None or bars is None else wanted
