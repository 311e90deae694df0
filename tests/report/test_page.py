import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from report.synthetic import write_run

from fedsep.core import FedSepError
from fedsep.report import write_report

EVIL = "<script>alert('x')</script>&\"https://evil.example/a.png\""


class Page(HTMLParser):
    """Tags, attributes, ids and text; fails where tags do not match."""

    VOID = frozenset({"meta", "link"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words, self.open = [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for seed in range(2):
        write_run(root, "fedavg", seed, rounds=30, per_client=True)
        write_run(
            root, "fedsep_linear", seed, rounds=30, up=2000, settings={"p": 500}, parts={"omega": 1500, "mask": 500}
        )
    return root


@pytest.fixture(scope="module")
def written(results):
    path = write_report(results, results)
    return path.read_text(encoding="utf-8")


def test_the_report_lies_in_the_folder(results, written):
    assert (results / "report.html").read_text(encoding="utf-8") == written
    assert [path.name for path in results.iterdir() if path.is_file()] == ["report.html"]


def test_what_the_page_says(written):
    text = Page(written).text
    for words in (
        "fedavg and fedsep_linear on mnist",
        "2 methods with seeds 0, 1 (4 runs) on mnist, 10 clients, 10 a round",
        "partition classes(k=2, mode=balanced)",
        "24,234",
        "Test accuracy against rounds",
        "Test accuracy against bytes",
        "Test accuracy against time",
        "Per-client accuracy before and after local steps",
        "Training loss against rounds",
        "cumulative over all clients",
        "logarithmic axis",
        "Mean over seeds 0, 1; band: ± one standard deviation",
        "fedsep_linear(p=500)",
        "2,000 B",
        "omega 75 %",
        "fedsep run recipes/quickstart.yaml --seeds 0,1,2",
        "fedavg/seed1/recipe.yaml --out runs/again",
        "AMD EPYC 9B14",
        "mode: balanced",
        "partition.npz is missing",
    ):
        assert words in text, words


def test_the_page_needs_nothing_but_itself(written):
    page = Page(written)
    assert not {"script", "img", "iframe", "object", "embed", "foreignobject"} & set(page.tags)
    assert not re.search(r"https?://|@import|url\((?!#)", written)
    outside = [value for name, value in page.attributes if name in ("href", "src", "xlink:href")]
    assert all(value.startswith(("#", "data:")) for value in outside)
    assert not [name for name, _ in page.attributes if name.startswith("on")]


def test_ids_are_unique_and_references_point_to_them(written):
    ids = re.findall(r'\bid="([^"]+)"', written)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', written)) | set(re.findall(r"url\(#([^)]+)\)", written)) <= set(ids)


def test_no_colour_of_a_figure_is_fixed(written):
    figures = re.findall(r"<figure>.*?</figure>", written, re.DOTALL)
    assert len(figures) == 6
    assert not [found for figure in figures for found in re.findall(r"#[0-9a-f]{6}\b", figure)]
    assert "prefers-color-scheme:dark" in written
    assert 'name="viewport"' in written


def test_the_same_folders_give_the_same_bytes(results, written, tmp_path):
    assert write_report([results], tmp_path / "again.html").read_text(encoding="utf-8") == written


def test_everything_is_escaped(tmp_path):
    write_run(
        tmp_path, "fedavg", rounds=6, status="failed", reason=EVIL, failures=1, settings={"lr": EVIL}, parts={EVIL: 9}
    )
    folder = write_run(tmp_path, "other", rounds=6, every=2)
    for name in ("environment.json", "summary.json"):
        told = json.loads((folder / name).read_text())
        told |= {"command": EVIL, "machine": EVIL, "method": EVIL, "data": EVIL, "notes": [EVIL], "partition": EVIL}
        (folder / name).write_text(json.dumps(told))
    written = write_report(tmp_path, tmp_path).read_text(encoding="utf-8")
    page = Page(written)
    assert "script" not in page.tags
    assert "<script" not in written
    assert page.text.count("alert('x')") > 6
    assert "RuntimeError: <out of> memory" in page.text


def test_failed_and_unfinished_runs_are_told(tmp_path):
    write_run(tmp_path, "a", 0, rounds=20)
    write_run(tmp_path, "a", 1, rounds=10, planned=20, status=None)
    write_run(tmp_path, "b", 0, rounds=7, planned=20, status="failed", reason="the loss of client 3 is not finite")
    write_run(tmp_path, "c", 0, rounds=2, planned=20, status=None, every=0)
    text = Page(write_report(tmp_path, tmp_path).read_text(encoding="utf-8")).text
    assert "a, seed 1: unfinished, after 10 rounds" in text
    assert "b, seed 0: failed after 7 rounds: the loss of client 3 is not finite" in text
    assert "c, seed 0: not evaluated yet" in text
    assert "finished runs only, 1 of 2" in text
    assert "Thin lines: single seeds" in text


def test_what_json_has_no_number_for_is_told_too(tmp_path):
    folder = write_run(tmp_path, rounds=4)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows[2]["train_loss"] = None
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = Page(write_report(tmp_path, tmp_path).read_text(encoding="utf-8")).text
    assert "train_loss is not finite in 1 round, first in round 3" in text


def test_refused_replies_are_told_and_empty_messages_are_none(tmp_path):
    folder = write_run(tmp_path, rounds=2, clients=2)
    rows = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    for row in rows:
        if row["round"] == 2 and row["direction"] == "up":
            row["accepted"] = False
    rows[0] |= {"payload": 0, "header": 0, "parts": {}, "failure": {"stage": "broadcast", "reason": "no"}}
    (folder / "ledger.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = Page(write_report(tmp_path, tmp_path).read_text(encoding="utf-8")).text
    assert "fedavg: 2 replies came but were not accepted" in text
    assert (
        "did not deliver 1 time; the rounds went on without them. The first: client 0, round 1, stage broadcast: no."
        in text
    )
    assert "fedavg down 3 " in text


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("/opt/env/bin/fedsep run 'a b.yaml'", "fedsep run 'a b.yaml'"),
        ("/opt/fedsep/__main__.py run a.yaml", "fedsep run a.yaml"),
        ("train.py --fast", "python train.py --fast"),
        ("an open 'quote", "an open 'quote"),
    ],
)
def test_the_command_is_shown_as_it_is_typed(tmp_path, command, shown):
    folder = write_run(tmp_path, rounds=2)
    told = json.loads((folder / "environment.json").read_text()) | {"command": command}
    (folder / "environment.json").write_text(json.dumps(told))
    assert (
        f"What was typed: {shown} Each run" in Page(write_report(tmp_path, tmp_path).read_text(encoding="utf-8")).text
    )


def test_unlike_conditions_are_told(tmp_path):
    write_run(tmp_path, "a", rounds=4, partition="aa")
    folder = write_run(tmp_path, "b", rounds=4, partition="bb")
    told = json.loads((folder / "environment.json").read_text()) | {"threads": 8}
    (folder / "environment.json").write_text(json.dumps(told))
    text = Page(write_report(tmp_path, tmp_path).read_text(encoding="utf-8")).text
    assert "did not have the same partition of the data (seeds 0)" in text
    assert "Times do not compare: the runs differ in threads" in text


def test_nothing_to_draw_yet(tmp_path):
    folder = write_run(tmp_path, status=None, rounds=3, every=0)
    for name in ("metrics.jsonl", "ledger.jsonl"):
        (folder / name).write_text("")
    text = Page(write_report(tmp_path, tmp_path).read_text(encoding="utf-8")).text
    assert "there is nothing to draw" in text
    assert "no ledger yet" in text


def test_values_that_are_not_finite_are_left_out_and_told(tmp_path):
    folder = write_run(tmp_path, rounds=10, every=1)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows[6:]:
        row |= {"train_loss": math.inf, "test_accuracy": math.nan}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    written = write_report(tmp_path, tmp_path).read_text(encoding="utf-8")
    assert "train_loss is not finite in 4 rounds, first in round 7" in Page(written).text
    assert "test_accuracy is not finite in 4 rounds, first in round 7" in Page(written).text
    assert not re.search(r"[\s\"]nan[\s\"]", written)


@pytest.mark.parametrize("rounds", [1, 2])
def test_a_single_point_can_be_drawn(tmp_path, rounds):
    write_run(tmp_path, rounds=rounds, every=1)
    assert "Test accuracy against bytes" in write_report(tmp_path, tmp_path).read_text(encoding="utf-8")


def test_no_bytes_at_all_leave_out_their_figure(tmp_path):
    write_run(tmp_path, rounds=5, every=1, up=0)
    text = Page(write_report(tmp_path, tmp_path).read_text(encoding="utf-8")).text
    assert "against rounds" in text
    assert "against bytes" not in text


def test_other_metrics_are_reported_by_their_names(tmp_path):
    write_run(tmp_path, "a", rounds=10, metric="mse")
    write_run(tmp_path, "b", rounds=10)
    text = Page(write_report(tmp_path, tmp_path).read_text(encoding="utf-8")).text
    assert "Test mse against rounds" in text
    assert "Test accuracy against rounds" in text


def test_many_methods_share_one_legend(tmp_path):
    for at in range(20):
        write_run(tmp_path, f"method{at}", rounds=4, every=1)
    written = write_report(tmp_path, tmp_path).read_text(encoding="utf-8")
    assert written.count('class="legend"') == 1
    assert len(written) < 400_000


def test_a_long_run_stays_small(tmp_path):
    write_run(tmp_path, rounds=3000, clients=1)
    written = write_report(tmp_path, tmp_path).read_text(encoding="utf-8")
    assert "A point is the mean of 15 rounds" in Page(written).text
    assert len(written) < 150_000


def test_the_partition_is_drawn(tmp_path):
    from fedsep.data.partition import Partition
    from fedsep.data.parts import Parts

    folder = write_run(tmp_path, rounds=3)
    parts, none = Parts(np.arange(20), np.array([0, 8, 20])), Parts(np.arange(0), np.zeros(3, int))
    counts = np.array([[8, 0], [2, 10]], np.int32)
    Partition(parts, none, none, counts).save(folder / "partition.npz")
    written = write_report(tmp_path, tmp_path).read_text(encoding="utf-8")
    assert 'aria-label="Partition of the data: mnist(' in written
    assert "No picture" not in Page(written).text


def test_a_damaged_partition_is_a_sentence_not_an_error(tmp_path):
    (write_run(tmp_path, rounds=3) / "partition.npz").write_bytes(b"nonsense")
    assert "No picture" in Page(write_report(tmp_path, tmp_path).read_text(encoding="utf-8")).text


def test_a_corrupt_ledger_is_named(tmp_path):
    (write_run(tmp_path, rounds=3) / "ledger.jsonl").write_text("{}\nnonsense\n{}\n")
    with pytest.raises(FedSepError, match=r"ledger\.jsonl: line 2"):
        write_report(tmp_path, tmp_path)


def test_where_it_cannot_be_written(tmp_path):
    write_run(tmp_path / "runs", rounds=3)
    (tmp_path / "file").write_text("")
    with pytest.raises(FedSepError, match="cannot be written"):
        write_report(tmp_path / "runs", tmp_path / "file" / "report.html")


def test_comparing_needs_no_matplotlib():
    import subprocess
    import sys

    code = "import sys, fedsep.report; sys.exit('matplotlib' in sys.modules or 'yaml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
