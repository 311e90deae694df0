"""Writes the tables of docs/results/ and of docs/derivations/mask.md from records/, between their markers.

No figure is typed by hand.

Usage: python -m benchmarks.tables
"""

from __future__ import annotations

import csv
import json
import re
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import (
    aims,
    communication,
    confirm_submodels,
    draws,
    faults,
    figures,
    heterogeneity,
    inside_submodels,
    privacy,
    speed,
    steps,
    submodel_tables,
    wide,
)
from benchmarks.markdown import machine, table

RECORDS = Path("records")
RESULTS = ("index", "communication", "paper", "heterogeneity", "speed", "privacy")
PAGES = (*(Path(f"docs/results/{name}.md") for name in RESULTS), Path("docs/derivations/mask.md"))
PICTURE = Path("docs/images/quickstart.svg")
MNIST = ("mnist_fedavg", "mnist_fedsep_linear", "mnist_fedsep_linear_k2")
TUNED = ("tune_fedavg", "tune_fedsep_linear", "tune_fedsep_linear_k2")


UNMEASURED = "Not measured yet."


def runs(name: str) -> list[tuple[dict[str, Any], list[dict[str, str]]]]:
    """Summary and metrics of every run of a record."""
    found = sorted((RECORDS / name).rglob("summary.json"))
    return [(json.loads(p.read_text()), list(csv.DictReader((p.parent / "metrics.csv").open()))) for p in found]


def spread(values: Sequence[float], digits: int = 4) -> str:
    """Mean, and the range over seeds where there are several."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{statistics.mean(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def at(rows: Sequence[dict[str, str]], column: str, round: int) -> float:
    """A metric after a round."""
    return next(float(row[column]) for row in rows if int(row["round"]) == round)


def methods(name: str) -> dict[str, list[tuple[dict[str, Any], list[dict[str, str]]]]]:
    """The runs of a record by method."""
    groups: dict[str, list[tuple[dict[str, Any], list[dict[str, str]]]]] = {}
    for summary, rows in runs(name):
        groups.setdefault(summary["method"], []).append((summary, rows))
    return groups


def accuracy_table(names: Sequence[str]) -> str:
    """Test accuracy at 50, 100 and the last round, bytes and seconds."""
    lines: list[list[object]] = []
    for name in names:
        for method, seeds in methods(name).items():
            first, last = seeds[0][0], [rows[-1] for _, rows in seeds]
            early = [statistics.mean(at(rows, "test_accuracy", r) for _, rows in seeds) for r in (50, 100)]
            lines.append(
                [
                    f"`{name}`",
                    method,
                    len(seeds),
                    first["rounds"],
                    *(f"{value:.4f}" for value in early),
                    spread([float(row["test_accuracy"]) for row in last]),
                    spread([float(row["validation_accuracy"]) for row in last]),
                    f"{first['bytes']['up']:,.0f} / {first['bytes']['down']:,.0f}",
                    f"{statistics.mean(s['seconds'] for s, _ in seeds):.0f}",
                ]
            )
    head = ["record", "method", "seeds", "rounds", "at 50", "at 100", "test accuracy at the end", "validation accuracy"]
    return table([*head, "bytes up / down", "seconds"], lines)


def tuning_table(names: Sequence[str] = TUNED) -> str:
    """What was seen in tuning: validation accuracy alone."""
    lines: list[list[object]] = []
    for name in names:
        for path in sorted((RECORDS / name).rglob("summary.json")):
            summary, setting = json.loads(path.read_text()), path.relative_to(RECORDS / name).parts[0]
            lines.append([f"`{name}`", setting, summary["rounds"], last(summary, "validation_accuracy")])
    return table(["record", "setting", "rounds", "validation accuracy"], lines)


def last(summary: dict[str, Any], metric: str) -> str:
    """A run's last figure, unless it failed: then its numbers were no longer finite."""
    return f"{summary['metrics'][metric]['last']:.4f}" if summary["status"] == "done" else "diverged"


def personal_table() -> str:
    """Per-client accuracy before and after the local steps, and the server's."""
    lines: list[list[object]] = []
    for method, seeds in methods("digits_personal_k2").items():
        last = [rows[-1] for _, rows in seeds]
        columns = ("client_accuracy_before", "client_accuracy_after", "test_accuracy")
        cells = [spread([float(row[column]) for row in last], 3) for column in columns]
        lines.append([method, *cells, f"{statistics.mean(s['seconds'] for s, _ in seeds):.0f}"])
    head = ["method", "client, before its 5 steps", "client, after", "server model, all classes", "seconds"]
    return table(head, lines)


def rounds_table(record: dict[str, Any]) -> str:
    """Seconds a round beside the plain loop's."""
    lines: list[list[object]] = [
        [
            row["workload"],
            row["method"],
            row.get("processes", record["processes"]),
            f"{row['seconds']['median']:.3f}",
            f"{row['plain_seconds']['median']:.3f}",
            row["ratio_of_medians"],
            row["ratio_of_sums"],
            row.get("ratio_to_fedavg", ""),
            row.get("ratio_of_sums_to_fedavg", ""),
        ]
        for row in record["rounds"]
    ]
    head = ["workload", "method", "processes", "s a round", "plain loop", "ratio of medians", "of sums"]
    return table([*head, "of medians, to FedAvg", "of sums, to FedAvg"], lines)


def lasso_rounds() -> str:
    """The same of LASSO on several operators."""
    record = json.loads((RECORDS / "rounds_lasso.json").read_text())
    return f"{rounds_table(record)}\n\n{machine(record['environment'])}"


def speed_table() -> str:
    """All workloads, and what the engine costs alone."""
    record = json.loads((RECORDS / "rounds.json").read_text())
    idle: list[list[object]] = [
        [row["engine"], f"{row['numbers']:,}", row["milliseconds"]["median"], row["milliseconds"]["most"]]
        for row in record["overhead"]
    ]
    second = table(["engine", "numbers each way", "median ms a round", "most"], idle)
    return f"{rounds_table(record)}\n\n100 clients that do nothing:\n\n{second}\n\n{machine(record['environment'])}"


def memory_table() -> str:
    """Peak memory by number of clients: medians, and the range over processes."""
    record = json.loads((RECORDS / "memory.json").read_text())
    lines: list[list[object]] = []
    for row in record["rows"]:
        figures = (row["peak_MiB"], row["loaded_MiB"])
        peak, loaded = (f"{each['median']} ({each['least']} to {each['most']})" for each in figures)
        states = f"{row['client_states_on_disk']:,}", row["client_states_MiB"]
        lines.append([f"{row['clients']:,}", row["rounds"], row["processes"], peak, loaded, *states])
    head = ["clients", "rounds", "processes", "peak MiB", "MiB before training", "states on disk", "MiB of states"]
    grown = f"Growth of the median peak: {record['growth']:.1%}."
    return f"{table(head, lines)}\n\n{grown} {machine(record['environment'])}"


def scale_table() -> str:
    """A round over many parameters, and rounds among many clients."""
    if not (RECORDS / "scale.json").is_file():
        return UNMEASURED
    record = json.loads((RECORDS / "scale.json").read_text())
    parts: list[str] = []
    if "parameters" in record:
        one = record["parameters"]
        cells = (f"{one['parameters']:,}", one["peak_MiB"], *(one[f"{part}_seconds"] for part in ("round", "command")))
        head = ["parameters", "peak MiB", "s of the round", "s of the command", "of the processor"]
        parts.append(table(head, [[*cells, one["processor_seconds"]]]))
    lines = [[f"{row['clients']:,}", *list(row.values())[1:]] for row in record.get("clients", ())]
    if lines:
        head = ["clients", "rounds", "s a round", "of the processor", "peak MiB", "states on disk", "MiB of states"]
        parts.append(table(head, lines))
    return "\n\n".join([*parts, machine(record["environment"])])


def told_table() -> str:
    """What ``fedsep check`` tells of memory beside what runs take."""
    record = json.loads((RECORDS / "memory.json").read_text()).get("told")
    if record is None:
        return UNMEASURED
    lines = [
        [row["name"], f"`{row['recipe']}`", row["method"], row["rounds"], row["processes"],
         row["told_MiB"]["all"], row["seen_MiB"]["all"], f"{row['off']:+.1%}"]
        for row in record["rows"]
    ]  # fmt: skip
    head = ["case", "recipe", "method", "rounds", "processes", "told, MiB", "seen, MiB", "off"]
    started = record["environment"]["started"]
    later = [
        f"{row['name']}: {', '.join(row[part] for part in ('cpu', 'started') if part in row)}."
        for row in record["rows"]
        if row.get("started", started) != started
    ]
    return f"{table(head, lines)}\n\n{' '.join([machine(record['environment']), *later])}"


def operators_table(file: str) -> str:
    """Products with operators in passes over the vector, and packing."""
    if not (RECORDS / file).is_file():
        return UNMEASURED
    record = json.loads((RECORDS / file).read_text())
    lines = [
        [
            row["operator"],
            f"{row['d']:.0e}".replace("e+0", "e"),
            *(f"{row['milliseconds'][part]:,.2f}" for part in ("pass_in_place", "mv", "rmv", "make")),
            *(row[f"{part}_in_passes"] for part in ("mv", "rmv")),
            row["peak_vectors"] or "",
        ]
        for row in record["operators"]
    ]
    head = ["operator", "d", "a pass, ms", "S v, ms", "S^T x, ms", "making S, ms", "S v in passes", "S^T x in passes"]
    packed = [[row["wire"], f"{row['bytes']:,}", *row["seconds"].values()] for row in record["wires"]]
    second = f"\n\n{table(['wire, d = 1e7', 'bytes', 'pack, s', 'unpack, s'], packed)}" if packed else ""
    where = machine(record["environment"]) if record["device"] == "cpu" else f"{record['device']}."
    return f"{table([*head, 'peak, vectors'], lines)}{second}\n\n{where}"


def lasso_table() -> str:
    """FISTA beside scikit-learn, to the same duality gap."""
    if not (RECORDS / "lasso.json").is_file():
        return UNMEASURED
    record = json.loads((RECORDS / "lasso.json").read_text())
    found = record["solvers"]
    lines = [
        [name.replace("_", "-"), f"{found['seconds'][name]['median']:.3f}", found["steps"][name], f"{gap:.1e}"]
        for name, gap in found["gap"].items()
    ]
    first = table(["solver", "median s", "steps", "relative duality gap"], lines)
    above = f"p = {found['p']}, d = {found['d']:,}, {found['support']} coordinates not 0. FISTA's objective is "
    above += f"{found['objective_above_scikit_learn']:.1e} (relative) above scikit-learn's."
    return f"{first}\n\n{above} {machine(record['environment'])}"


def made(name: str) -> str:
    """Where and when a record's runs were made."""
    path = min((RECORDS / name).rglob("environment.json"))
    return machine(json.loads(path.read_text()))


def budget_table(name: str) -> str:
    """Accuracy by bytes of a round, and total bytes to targets."""
    lines: list[list[object]] = []
    for method, seeds in sorted(methods(name).items(), key=lambda item: item[1][0][0]["bytes"]["up"]):
        first = seeds[0][0]
        rounds = first["rounds"]
        both = first["bytes"]["up"] + first["bytes"]["down"] * rounds / (rounds - 1)  # round 0 sends nothing down
        last = [float(rows[-1]["test_accuracy"]) for _, rows in seeds]
        checked = [float(rows[-1]["validation_accuracy"]) for _, rows in seeds]
        reached = [bytes_to(seeds, target) for target in (0.95, 0.97, 0.98)]
        lines.append([method, len(seeds), f"{both:,.0f}", f"{both + 64:,.0f}", spread(last), spread(checked), *reached])
    head = ["setting", "seeds", "bytes a round", "with headers", "test accuracy at 200 rounds", "validation accuracy"]
    return table([*head, "kB to .95", "kB to .97", "kB to .98"], lines)


def bytes_to(seeds: Sequence[tuple[dict[str, Any], list[dict[str, str]]]], target: float) -> str:
    """Payload of one client, up and down, until the test accuracy is first seen at ``target``; mean over seeds."""
    found: list[float] = []
    for summary, rows in seeds:
        hits = [row for row in rows if row["test_accuracy"] and float(row["test_accuracy"]) >= target]
        if not hits:
            return "not reached"
        found.append((int(hits[0]["bytes_up"]) + int(hits[0]["bytes_down"])) / summary["clients"] / 1000)
    return f"{statistics.mean(found):.1f}"


BLOCKS: dict[str, Callable[[], str]] = {
    "mnist": lambda: f"{accuracy_table(MNIST)}\n\n{made(MNIST[0])}",
    "float": lambda: f"{budget_table('mnist_float')}\n\n{made('mnist_float')}",
    "tuning of the quantised sketch": lambda: tuning_table(
        ["tune_quantised_k2", "tune_quantised", "tune_quantised_k2_rates"]
    ),
    "aims of few bytes": communication.aims_table,
    "tuning of the rivals": lambda: tuning_table(
        [
            "tune_rivals",
            "tune_rivals_k2",
            "tune_rivals_low",
            "tune_more",
            "tune_more_k2",
            "tune_scaffold",
            "tune_fetchsgd",
            "tune_fetchsgd_k2",
        ]
    ),
    "tuning": tuning_table,
    "quickstart": lambda: accuracy_table(["quickstart"]),
    "personal": personal_table,
    "speed": speed_table,
    "speed of LASSO": lasso_rounds,
    "operators": lambda: operators_table("operators.json"),
    "operators on a GPU": lambda: operators_table("operators_gpu.json"),
    "lasso": lasso_table,
    "memory": memory_table,
    "memory told": told_table,
    "scale": scale_table,
    "frontier iid": lambda: communication.frontier_table("iid"),
    "frontier k2": lambda: communication.frontier_table("k2"),
    "frontier cifar10": lambda: communication.frontier_table("cifar10"),
    "longer iid": lambda: communication.longer("iid"),
    "longer k2": lambda: communication.longer("k2"),
    "leaders iid": lambda: communication.leaders("iid"),
    "leaders k2": lambda: communication.leaders("k2"),
    "trials": communication.trials_table,
    **{figure: lambda figure=figure: figures.figure_table(figure) for figure in figures.FIGURES},
    **{name: lambda name=name: heterogeneity.setting_table(name) for name in heterogeneity.SETTINGS},
    "steps": steps.page_table,
    "minibatches": draws.page_table,
    "aims of speed": aims.page_table,
    "faults": faults.page_table,
    **{f"speed by {part}": lambda part=part: speed.page_table(part) for part in speed.PARTS},
    "speed by engines": lambda: speed.page_table("engines", only=("W1", "W2")),
    "speed on an EPYC": lambda: speed.page_table("engines", aims.EPYC, ("W3",)),
    "speed in bfloat16": lambda: speed.page_table("bfloat16", aims.BFLOAT16),
    "speed in bfloat16 with AMX": lambda: speed.page_table("bfloat16", aims.AMX),
    "speed on a GPU": lambda: speed.page_table("engines", Path("records/speed_gpu.json")),
    wide.SETTING.name: wide.page_table,
    "ahead": heterogeneity.ahead_table,
    "confirmed": confirm_submodels.confirmed_table,
    "rates of Table 1": submodel_tables.rates_table,
    "own classes": submodel_tables.own_classes_table,
    "inside sub-models": inside_submodels.inside,
    "costs of sub-models": submodel_tables.costs_table,
    "own classes at their own rates": submodel_tables.tuned_own_classes_table,
    "ideas for personal masks": submodel_tables.personal_ideas_table,
    "ideas for sub-models": submodel_tables.ideas_table,
    "ideas at their own rates": submodel_tables.tuned_ideas_table,
    "soft labels": submodel_tables.soft_labels_table,
    "second term": submodel_tables.second_term_table,
    "lasso that is re-drawn": communication.lasso_table,
    "private": lambda: f"{privacy.chosen_table(4)}\n\n{made('tune_private_fedavg_4')}",
    "private seeds": lambda: f"{privacy.private_table('private_4')}\n\n{made('private_4')}",
    "tuning at noise 4": lambda: privacy.tuned_table(4),
}


def picture() -> None:
    """The README's picture: the quick start's accuracy against rounds and against bytes."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "fedsep"
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
    for colour, (method, seeds) in zip(("#0072B2", "#D55E00"), methods("quickstart").items(), strict=True):
        rows = [[row for row in rows if row["test_accuracy"]] for _, rows in seeds]
        rounds = [int(row["round"]) for row in rows[0]]
        sent = [int(row["bytes_up"]) + int(row["bytes_down"]) for row in rows[0]]
        values = [[float(row["test_accuracy"]) for row in at_round] for at_round in zip(*rows, strict=True)]
        for panel, x in zip(panels, (rounds, sent), strict=True):
            panel.plot(x, [statistics.mean(v) for v in values], color=colour, label=method)
            panel.fill_between(x, [min(v) for v in values], [max(v) for v in values], color=colour, alpha=0.2, lw=0)
    panels[0].set(xlabel="rounds", ylabel="test accuracy")
    panels[1].set(xlabel="payload of all clients, up + down, bytes", xscale="log")
    panels[0].legend(frameon=False, loc="lower right")
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.25)
    figure.suptitle("Quick start: digits, 10 clients, i.i.d.; mean and range of seeds 0, 1, 2", fontsize=10)
    figure.savefig(PICTURE, metadata={"Date": None})


def main() -> None:
    """Fills every block of the pages and draws the pictures."""
    picture()
    communication.draw()
    heterogeneity.draw_settings()
    inside_submodels.draw()
    for page in PAGES:
        text = page.read_text()
        for name, make in BLOCKS.items():
            pattern = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
            text = pattern.sub(lambda found, make=make: f"{found[1]}\n{make()}\n\n{found[2]}", text)
        page.write_text(text)


if __name__ == "__main__":
    main()
