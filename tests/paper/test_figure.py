"""The figure of run folders whose numbers are made up: rates, panels, captions."""

from __future__ import annotations

import csv
from xml.etree import ElementTree

import pytest
from report.synthetic import write_run

from fedsep.paper.cells import Choice
from fedsep.paper.lines import LINES
from fedsep.paper.page import Drawn, caption, cells, failures, write_figure
from fedsep.paper.panels import key, paper_panels, rate_key, rate_panels, training_panels
from fedsep.paper.results import Result, over_p
from fedsep.paper.scales import SCALES
from fedsep.report import read_run

BY_NAME = {line.name: line for line in LINES}
D = 24_234
NOTE = "read from a lossy copy (JPEG), so absolute figures are not comparable with published ones"


def result(folder, name, split, p, *, up, down, seeds=(0,), final=0.9, **more):
    data = {"use": "fedsep.data.mnist", "clients": 10, "partition": {"use": f"fedsep.data.{split}"}}
    runs = [
        write_run(folder / split / str(p), name, seed, rounds=20, up=up, down=down, final=final, data=data, **more)
        for seed in seeds
    ]
    return Result(BY_NAME[name], split, p, tuple(read_run(run) for run in runs))


@pytest.fixture
def results(tmp_path):
    made = []
    for split in ("iid", "k2"):
        made.append(result(tmp_path, "fedavg", split, None, up=4 * D, down=4 * D, seeds=(0, 1, 2), final=0.98))
        for p in (100, 500, 2000):
            seeds = (0, 1, 2) if p == 500 else (0,)
            final = 0.9 + p / 40_000
            made.append(result(tmp_path, "topk_ef", split, p, up=4 * p, down=16 * p, seeds=seeds, final=final))
            made.append(result(tmp_path, "topk_ef_values", split, p, up=8 * p, down=32 * p, seeds=seeds, final=final))
            made.append(result(tmp_path, "fedsep_linear", split, p, up=4 * p, down=4 * p, seeds=seeds, final=final))
    return made


@pytest.fixture
def drawn(results):
    choices = {("iid", "fedavg"): 0.2, ("k2", "fedavg"): 0.1, ("iid", "topk_ef"): 0.1, ("k2", "topk_ef"): 0.1}
    choices |= {("iid", "fedsep_linear"): 0.05, ("k2", "fedsep_linear"): 0.05}
    chosen = {where: Choice("lr", value) for where, value in choices.items()}
    return Drawn("fig2", "Figure 2", SCALES["fig2"]["small"], results, chosen)


def test_communication_rate_is_one_where_the_model_travels_both_ways(results):
    rates = {(one.line.name, one.p): one.rate for one in results if one.split == "iid"}
    assert rates["fedavg", None] == 1
    assert rates["fedsep_linear", 500] == pytest.approx(500 / D)
    assert rates["topk_ef", 500] == pytest.approx(20 * 500 / (8 * D))
    apart = {(one.line.name, one.p): (one.rate_up, one.rate_down, one.rate_dense_down) for one in results}
    assert apart["fedavg", None] == (1, 1, None)
    up = 4 * 500 / (4 * D)  # what the helper above says that Top-K sends at p = 500
    assert apart["topk_ef", 500] == pytest.approx((up, 4 * up, (up + 1) / 2))
    whole = next(one for one in results if one.line.name == "fedavg")
    assert (whole.round_bytes, whole.header_bytes) == (8 * D, 64)


def test_curves_over_p_hold_the_mean_of_the_last_round(results):
    [line] = [one for one in over_p(results, "k2", lambda r: r.p and float(r.p)) if "re-drawn" in one.label]
    assert line.x == [100, 500, 2000]
    of = next(r for r in results if (r.line.name, r.split, r.p) == ("fedsep_linear", "k2", 500))
    last = [run.rows[-1]["test_accuracy"] for run in of.runs]
    assert line.mean[1] == pytest.approx(sum(last) / 3)
    assert line.std[1] > 0 == line.std[0]


def test_four_panels_and_the_second_line_is_dashed_in_the_colour_of_the_first(results):
    assert [panel.title for panel in paper_panels(results, "a")] == [
        "i.i.d.: against communication rate",
        "i.i.d.: against p",
        "2 classes per client: against communication rate",
        "2 classes per client: against p",
    ]
    styles = {label: style for style, label in key(results)}
    assert len(styles) == 4
    assert styles["Top-K + EF, k = p (p counts values only)"] == styles["Top-K + EF, k = p/2"] + 8
    assert [panel.title for panel in training_panels(results, 500, "b")][:2] == [
        "i.i.d., p = 500: against rounds",
        "i.i.d., p = 500: against bytes",
    ]
    assert "stroke-dasharray" in paper_panels(results, "a")[1].svg


def test_rates_up_and_down_are_drawn_apart_and_p_is_told_as_a_part_of_d(results):
    assert [panel.title.partition(": ")[2] for panel in rate_panels(results, "c")] == [
        "against the rate up",
        "against the rate down",
    ] * 2
    assert ">0.0041<" in (by_p := paper_panels(results, "a")[1].svg)  # 100 / 24,234, below the tick at 100
    assert ">100<" in by_p


def test_top_ks_dense_download_is_drawn_once_with_a_key_of_its_own(results):
    assert rate_key(results)[:-1] == key(results)
    assert rate_key(results)[-1] == (16, "Top-K + EF, k = p/2, download counted dense")
    told = [panel.svg.count("download counted dense") for panel in paper_panels(results, "a")]
    assert told == [1, 0, 1, 0]


def test_what_was_tuned_stands_beside_every_figure(drawn, tmp_path):
    told = caption(drawn)
    assert "at p = 500 with 50 rounds of seed 100, and carried over to every p" in told
    assert "FedAvg: lr 0.2 (i.i.d.), 0.1 (2 classes per client) of 0.05, 0.1, 0.2;" in told
    assert "Top-K + EF, k = p/2: lr 0.1 of 0.05, 0.1, 0.2" in told
    page, _, *pictures = write_figure(drawn, tmp_path / "out")
    assert [path.name for path in pictures] == ["fig2.svg", "fig2_training.svg"]
    html = page.read_text()
    assert html.count("carried over to every p") == 5
    assert html.count("<svg viewBox") > 10
    assert "src=" not in html
    for picture in pictures:
        root = ElementTree.fromstring(picture.read_text())
        words = " ".join(element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text"))
        assert "carried over to" in words
        assert "small: 100 rounds, one seed, three at p = 500" in words


def test_lossy_images_are_told_beside_every_figure(tmp_path):
    runs = [result(tmp_path, name, "iid", p, up=u, down=u, extra={"notes": [NOTE]})
            for name, p, u in (("fedavg", None, 4 * D), ("fedsep_linear", 500, 2000))]  # fmt: skip
    found = Drawn("fig3", "Figure 3", SCALES["fig3"]["small"], runs, {})
    page, _, *pictures = write_figure(found, tmp_path / "out")
    assert page.read_text().count("(JPEG)") >= 4
    assert all("(JPEG)" in picture.read_text().replace("\n", " ") for picture in pictures)
    assert "Nothing was tuned." in caption(found)


def test_the_table(drawn, tmp_path):
    rows = cells(drawn)
    assert rows[0]["rate"] == "1"
    assert rows[0]["p"] == "–"
    row = next(row for row in rows if (row["method"], row["p"]) == ("Top-K + EF, k = p/2", "2,000"))
    assert (row["bytes a round"], row["header"], row["split"], row["seeds"]) == ("40.0 kB", "64 B", "i.i.d.", "1")
    html = write_figure(drawn, tmp_path / "out")[0].read_text()
    assert all(f">{name}<" in html for name in ("up", "down", "dense down", "p/d"))
    assert (
        html.count(">0.541<") == 2
    )  # (1 + 2,000 / d) / 2: Top-K at p = 2,000, its download counted dense, on each split


def test_the_table_in_numbers(drawn, tmp_path):
    lines = list(csv.DictReader(write_figure(drawn, tmp_path / "out")[1].read_text().splitlines()))
    row = next(line for line in lines if (line["method"], line["p"]) == ("Top-K + EF, k = p/2", "2000"))
    assert (row["split"], row["seeds"], float(row["payload_bytes"]), row["deviation"]) == ("iid", "1", 40_000, "")
    assert float(row["rate"]) == pytest.approx(40_000 / (8 * D))
    assert float(row["rate_up"]) == pytest.approx(8_000 / (4 * D))
    assert float(row["rate_down"]) == pytest.approx(32_000 / (4 * D))
    assert float(row["rate_dense_down"]) == pytest.approx(0.5 + 8_000 / (8 * D))
    assert float(row["p_over_d"]) == pytest.approx(2000 / D)
    whole = [line for line in lines if line["method"] == "FedAvg"]
    assert {(line["p"], line["p_over_d"], line["rate_dense_down"]) for line in whole} == {("", "", "")}


def test_what_was_settled_by_hand_is_told(tmp_path):
    runs = [result(tmp_path, "fetchsgd", "iid", 500, up=2000, down=2000)]
    chosen = {("iid", "fetchsgd"): Choice("server_lr", 1.0)}
    for found in (Drawn("fig2", "", SCALES["fig2"]["small"], runs, of) for of in (chosen, {})):
        assert "rows = 1 and k = min(5 p, 20,000) were settled before, by hand, among nine settings" in caption(found)


def test_failures_are_counted_and_named():
    assert failures([]) == []
    assert failures([("a/b", "not finite")]) == ["Not drawn, since they failed: 1 run.", "a/b failed: not finite"]
