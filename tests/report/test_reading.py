import json

import pytest
from report.synthetic import write_run

from fedsep.core import FedSepError
from fedsep.report import compare, find_runs, read_run
from fedsep.report.grouping import group_runs, left_out
from fedsep.report.notes import notes


def test_a_finished_run_is_read(tmp_path):
    run = read_run(write_run(tmp_path, "fedavg", 2, rounds=10))
    assert (run.method, run.seed, run.status, run.metric, run.rounds) == ("fedavg", 2, "done", "accuracy", 10)
    assert run.recipe["methods"][0]["use"] == "fedsep.algorithms.fedavg"


def test_a_run_without_a_summary_is_unfinished_and_named_by_its_folder(tmp_path):
    run = read_run(write_run(tmp_path, "fedprox", 1, rounds=3, every=0, status=None, recipe=False))
    assert (run.method, run.seed, run.status, run.metric, run.rounds) == ("fedprox", 1, "unfinished", None, 3)


def test_a_run_that_has_only_started_is_read(tmp_path):
    folder = write_run(tmp_path, status=None)
    (folder / "metrics.jsonl").unlink()
    assert read_run(folder).rounds == 0


def test_a_resumed_run_is_not_told_by_the_summary_of_its_interruption(tmp_path):
    folder = write_run(tmp_path, rounds=20, status="interrupted", reason="Ctrl-C")
    told = json.loads((folder / "summary.json").read_text()) | {"rounds": 12}
    (folder / "summary.json").write_text(json.dumps(told))
    run = read_run(folder)
    assert (run.status, run.reason, run.rounds, "metrics" in run.summary) == ("unfinished", "", 20, False)


def test_a_half_written_last_line_is_left_out(tmp_path):
    folder = write_run(tmp_path, rounds=5)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"round": 6, "train_')
    assert read_run(folder).rows[-1]["round"] == 5


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("summary.json", "{", ["summary.json", "JSON"]),
        ("summary.json", "[1]", ["summary.json", "object", "list"]),
        ("summary.json", '{"metrics": 3, "bytes": []}', ["summary.json", "metrics", "bytes"]),
        ("environment.json", "nonsense", ["environment.json"]),
        ("metrics.jsonl", '{"round": 1}\n{"rou\n{"round": 3}\n', ["metrics.jsonl", "line 2"]),
        ("metrics.jsonl", '{"round": "one"}\n', ["metrics.jsonl", "line 1", "round", "'one'"]),
        ("recipe.yaml", "a: [", ["recipe.yaml", "YAML"]),
        ("recipe.yaml", "- 1", ["recipe.yaml", "mapping"]),
    ],
)
def test_a_corrupt_file_is_named(tmp_path, name, content, words):
    folder = write_run(tmp_path, rounds=3)
    (folder / name).write_text(content)
    with pytest.raises(FedSepError) as caught:
        read_run(folder)
    assert all(word in str(caught.value) for word in words)


def test_bytes_that_are_not_text_are_an_error_that_names_the_file(tmp_path):
    folder = write_run(tmp_path, rounds=3)
    (folder / "metrics.jsonl").write_bytes(b"\xff\xfe\n")
    with pytest.raises(FedSepError, match=r"metrics\.jsonl"):
        read_run(folder)


def test_runs_are_found_at_any_level_once_and_in_natural_order(tmp_path):
    for seed in (10, 2):
        write_run(tmp_path / "out", "fedavg", seed, rounds=2)
    write_run(tmp_path / "out" / "variant", "fedprox", 0, rounds=2)
    found = find_runs([tmp_path / "out", tmp_path / "out" / "fedavg" / "seed2"])
    names = [path.relative_to(tmp_path / "out").as_posix() for path in found]
    assert names == ["fedavg/seed2", "fedavg/seed10", "variant/fedprox/seed0"]
    assert find_runs(found[0]) == [found[0]]


def test_all_wrong_paths_are_told_with_the_nearest_name(tmp_path):
    folder = write_run(tmp_path / "quickstart", rounds=2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FedSepError) as caught:
        find_runs([tmp_path / "quikstart", tmp_path / "empty", folder / "summary.json"])
    lines = str(caught.value).splitlines()
    assert "quickstart" in lines[0]
    assert "no run in this folder" in lines[1]
    assert f"did you mean {folder}" in lines[2]


def test_no_path_at_all_is_an_error():
    with pytest.raises(FedSepError, match="no run folder is given"):
        find_runs([])


def test_runs_that_differ_in_seeds_only_are_one_group(tmp_path):
    folders = [write_run(tmp_path, "fedavg", seed, rounds=2) for seed in (1, 0)]
    (group,) = group_runs(map(read_run, folders))
    assert (group.label, group.seeds) == ("fedavg", [0, 1])


def test_a_seed_counts_once(tmp_path):
    write_run(tmp_path / "cut", "fedavg", 0, rounds=9, planned=9, status=None)
    whole = write_run(tmp_path / "whole", "fedavg", 0, rounds=9, final=0.9)
    write_run(tmp_path / "whole", "fedavg", 1, rounds=9, final=0.7)
    again = write_run(tmp_path / "whole2", "fedavg", 0, rounds=9, final=0.1)
    (group,) = group_runs(map(read_run, find_runs(tmp_path)))
    assert [(run.seed, run.folder) for run in group.runs] == [(0, whole), (1, whole.parent / "seed1")]
    [row] = compare(map(read_run, find_runs(tmp_path)))
    assert (row["runs"], row["last"]["n"]) == (2, 2)
    assert list(left_out([group])) == [
        f"fedavg: {folder} repeats seed 0 of {whole}, so it is left out."
        for folder in (tmp_path / "cut/fedavg/seed0", again)
    ]
    assert set(left_out([group])) <= set(notes([group], {}))


def test_groups_of_one_method_are_told_apart_by_what_differs(tmp_path):
    folders = [write_run(tmp_path / str(lr), rounds=2, settings={"lr": lr, "steps": 5}) for lr in (0.1, 1.0)]
    assert [group.label for group in group_runs(map(read_run, folders))] == ["fedavg · lr=0.1", "fedavg · lr=1.0"]


def test_labels_are_unique_even_where_nothing_tells_groups_apart(tmp_path):
    settings = [{f"s{at}": value for at in range(4)} for value in (0, 1)]
    for value in settings:
        value.update(dict.fromkeys(("s0", "s1", "s2"), 0))
    folders = [write_run(tmp_path, "a", seed, rounds=2, settings=value) for seed, value in enumerate(settings)]
    folders += [write_run(tmp_path / name, "a", rounds=2, recipe=False) for name in ("x", "y")]
    labels = [group.label for group in group_runs(map(read_run, folders))]
    assert len(set(labels)) == 4
