"""Tables of docs/results/heterogeneity.md beside those of the settings: rates, own classes, costs, what was tried."""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import heterogeneity
from benchmarks.heterogeneity import LABELS, SETTINGS, WHOLE, kept, percent
from benchmarks.ideas_submodels import SETTINGS as IDEA_SETTINGS
from benchmarks.ideas_submodels import TUNED
from benchmarks.markdown import table
from fedsep.paper.table1.results import share
from fedsep.paper.table1.rows import ROWS

IDEAS, TUNED_IDEAS = Path("records/submodel_ideas.json"), Path("records/submodel_ideas_tuned.json")
PERSONAL_IDEAS, TUNED_OWN = Path("records/personal_ideas.json"), Path("records/own_classes.json")
COSTS, SECOND = Path("records/submodel_costs.json"), Path("records/second_term.json")
NOT_RUN = "Not run yet."
LOOKED_AT = (1, 10, 100)
"""Rounds whose labels are told."""

MASK, BEATEN = "fedsep_mask", ("fedrolex", "federated_dropout")
"""On each client's own classes, what must be ahead of what."""


def rates_table() -> str:
    """The learning rate of every row in every setting, what validation accuracy chose it, and what else was tried."""
    found = {name: file for name in SETTINGS if (file := heterogeneity.RECORD / f"{name}_all_tuning.json").is_file()}
    if not found:
        return NOT_RUN
    records = {name: json.loads(file.read_text()) for name, file in found.items()}
    rows = [row for row in ROWS if any(row.name in record["points"] for record in records.values())]
    lines = [[row.label, *(_rate(record, row.name) for record in records.values())] for row in rows]
    by = ", ".join(f"`{name}`: {record['metric']}" for name, record in records.items())
    told = table(["row", *(f"`{name}`" for name in records)], lines)
    return f"{told}\n\nValidation figure by which rates were chosen: {by}."


def _rate(record: Mapping[str, Any], row: str) -> str:
    """The chosen rate, its figure, and the further rate that was tried, if any: the fourth."""
    if row not in record["chosen"]:
        return "–"
    tried = [next(iter(point["settings"].values())) for point in record["points"][row]]
    [rate] = record["chosen"][row]["settings"].values()
    more = "".join(f", {further:g} tried" for further in tried[3:])
    return f"{rate:g} ({100 * record['chosen'][row]['validation']:.1f}{more})"


def own_classes_table() -> str:
    """Each client's quarter model on its own classes, and whether the mask is ahead of what it must beat."""
    settings = {name: rows for name in SETTINGS if (rows := kept(name))}
    if not settings:
        return NOT_RUN
    shown = [row for row in LABELS if row not in WHOLE and any(_has_own(rows, row) for rows in settings.values())]
    lines = [[LABELS[row], *(_own(rows, row) for rows in settings.values())] for row in shown]
    own = {name: {row: rows[row]["own_classes"] for row in (MASK, *BEATEN) if _has_own(rows, row)}
           for name, rows in settings.items()}  # fmt: skip
    return f"{table(['row', *(f'`{name}`' for name in settings)], lines)}\n\n{_verdict(MASK, ' must beat', own)}"


def _has_own(rows: Mapping[str, Any], row: str) -> bool:
    return row in rows and rows[row]["own_classes"]["mean"] is not None


def _own(rows: Mapping[str, Any], row: str) -> str:
    return percent(rows[row]["own_classes"]) if _has_own(rows, row) else "–"


def _verdict(mask: str, told: str, settings: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """A mask beside each method that it must beat, in points; level: within the larger deviation over seeds.

    Args:
        mask: The mask.
        told: How it stands to the others, in words.
        settings: By setting and row: mean and deviation, of the rows that have them.
    """
    found = {name: own for name, own in settings.items() if mask in own and any(rival in own for rival in BEATEN)}
    head = f"{LABELS.get(mask, mask)}{told} {' and '.join(LABELS[rival] for rival in BEATEN)}:"
    return "\n".join([head, "", *(f"- `{name}`: {_beaten(own, mask)}." for name, own in found.items())])


def _beaten(own: Mapping[str, Mapping[str, Any]], mask: str) -> str:
    """Of a mask, by mean and deviation of all: whether it is ahead of what it must beat."""
    pairs = [(LABELS[rival], _against(own[mask], own[rival])) for rival in BEATEN if rival in own]
    told = ", ".join(f"{word} {rival} ({points:+.2f})" for rival, (word, points) in pairs)
    return f"{told}: {'met' if all(word == 'ahead of' for _, (word, _) in pairs) else 'not met'}"


def _against(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[str, float]:
    ahead = mine["mean"] - theirs["mean"]
    level = abs(ahead) <= max(mine["std"] or 0.0, theirs["std"] or 0.0)
    return "level with" if level else "ahead of" if ahead > 0 else "behind", 100 * ahead


def tuned_own_classes_table() -> str:
    """The same of some methods at the rate that is best for it, and whether each mask is ahead of what it must beat."""
    runs = [run for run in _recorded(TUNED_OWN) if run["rounds"] > TUNED]
    if not runs:
        return NOT_RUN
    names = {name: LABELS.get(name, name) for name in dict.fromkeys(run["idea"] for run in runs)}

    def cell(own: Sequence[Mapping[str, Any]]) -> str:
        [rate] = {run["lr"] for run in own}
        return f"{_mean(own, 'own_classes')} (rate {rate:g})"

    told = _by_setting([{**run, "idea": names[run["idea"]]} for run in runs], cell)
    return f"{told}\n\n{_tuned_verdicts(runs)}"


def _tuned_verdicts(runs: Sequence[Mapping[str, Any]]) -> str:
    rows = list(dict.fromkeys(run["idea"] for run in runs))
    values = {(run["setting"], run["idea"]): list[float]() for run in runs}
    for run in runs:
        values[run["setting"], run["idea"]].append(run["own_classes"])
    settings = {name: {row: _spread(values[name, row]) for row in rows if (name, row) in values}
                for name in IDEA_SETTINGS}  # fmt: skip
    return "\n\n".join(_verdict(mask, ", beside", settings) for mask in rows if mask not in BEATEN)


def personal_ideas_table() -> str:
    """Validation accuracy of quarter models on clients' own classes, and of the served model, of masks tried."""
    runs = [
        {**run, "idea": f"{run['idea']} (rate {run['lr']:g}, {run['rounds']} rounds)"}
        for run in _recorded(PERSONAL_IDEAS)
    ]
    return _by_setting(runs, lambda own: f"{_mean(own, 'own_classes')} / {_mean(own, 'validation_served_accuracy')}")


def ideas_table() -> str:
    """Validation accuracy of all that was tried beyond importance, at one rate."""
    return _by_setting(_recorded(IDEAS), _tried)


def _recorded(record: Path) -> list[dict[str, Any]]:
    """Those of a record; none where there is no record."""
    return json.loads(record.read_text())["runs"] if record.is_file() else []


def tuned_ideas_table() -> str:
    """The same of what was ahead, each at its own rate in each setting; runs that tried rates are left out."""
    runs = _recorded(TUNED_IDEAS)
    longest = max((run["rounds"] for run in runs), default=0)
    return _by_setting([run for run in runs if run["rounds"] == longest > TUNED], _tried)


def _by_setting(runs: Sequence[Mapping[str, Any]], cell: Callable[[Sequence[Mapping[str, Any]]], str]) -> str:
    """A row for each idea, a column for each setting in which one was run."""
    if not runs:
        return NOT_RUN
    shown = [name for name in IDEA_SETTINGS if any(run["setting"] == name for run in runs)]

    def told(idea: str, setting: str) -> str:
        own = [run for run in runs if (run["idea"], run["setting"]) == (idea, setting)]
        return cell(own) if own else ""

    ideas = dict.fromkeys(run["idea"] for run in runs)
    return table(["idea", *shown], [[idea, *(told(idea, setting) for setting in shown)] for idea in ideas])


def _tried(own: Sequence[Mapping[str, Any]]) -> str:
    """Served and averaged accuracy, with the number of seeds, and the rate where it was chosen."""
    rates = "".join(f", rate {rate:g}" for rate in sorted({run["lr"] for run in own if "lr" in run}))
    served, average = (_mean(own, f"validation_{model}_accuracy") for model in ("served", "average_served"))
    return f"{served} / {average} ({len(own)}{rates})"


def _mean(runs: Iterable[Mapping[str, Any]], figure: str) -> str:
    return percent(_spread([run[figure] for run in runs]))


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    return {"mean": statistics.fmean(values), "std": statistics.stdev(values) if len(values) > 1 else None}


def second_term_table() -> str:
    """Validation accuracy of FedSep's mask with the first term of Eq. (8), with both, and with a random second one.

    Of the longest runs, those at the rate of most of them.
    """
    runs = _recorded(SECOND)
    if not runs:
        return NOT_RUN
    longest = max(run["rounds"] for run in runs)
    rate = statistics.mode(run["lr"] for run in runs if run["rounds"] == longest)
    runs = [run for run in runs if (run["rounds"], run["lr"]) == (longest, rate)]
    first = {run["seed"]: run["validation_served_accuracy"] for run in runs if run["row"] == "first"}
    lines: list[list[object]] = []
    for row in dict.fromkeys(run["row"] for run in runs):
        own = [run for run in runs if run["row"] == row]
        ahead = [100 * (run["validation_served_accuracy"] - first[run["seed"]]) for run in own if run["seed"] in first]
        paired = f"{statistics.fmean(ahead):+.2f} ({min(ahead):+.2f} to {max(ahead):+.2f})" if ahead else ""
        figures = [_mean(own, f"validation_{model}_accuracy") for model in ("served", "average_served")]
        lines.append([row, len(own), *figures, "" if row == "first" else paired])
    return table(["terms", "seeds", "served", "averaged, served", "served, less first (range)"], lines)


def costs_table() -> str:
    """Time and memory of a client at the paper's width, outside refreshes and at one."""
    if not COSTS.is_file():
        return NOT_RUN
    record = json.loads(COSTS.read_text())
    medians = _medians(record["rows"])
    of = record["environment"]
    return (
        f"{_outside(medians)}\n\nScoring, once every second participation:\n\n{_refreshes(medians)}\n\n"
        f"{_refresh_told(medians)} Processor seconds of one thread, medians; {of['machine']['cpu']}, torch "
        f"{of['torch']}, {of['started']}."
    )


Medians = Mapping[tuple[str, float, int], Mapping[str, float]]
"""By method, capability and local steps."""


def _outside(medians: Medians) -> str:
    """Rounds without scoring."""
    whole, lines = medians["heterofl", 1.0, 2]["seconds"], list[list[object]]()
    for level in _levels(medians, "fedsep_mask"):
        plain, rolled, mask = (medians[name, level, 2] for name in ("heterofl", "fedrolex", "fedsep_mask"))
        shared = medians.get(("fedsep_shared, held", level, 2), {})
        ratios = [f"{plain['seconds'] / whole:.2f}", f"{mask['seconds'] / rolled['seconds']:.2f}"]
        peaks = [_number(each, "peak_mib", 0) for each in (plain, rolled, mask, shared)]
        seconds = [_number(each, "seconds", 2) for each in (plain, rolled, mask, shared)]
        lines.append([share(level), *seconds, *ratios, *peaks])
    names = ("HeteroFL", "FedRolex", "FedSep mask", "FedSep shared, held")
    head = ["capability", *(f"s, {name}" for name in names), "HeteroFL / full-size", "mask / FedRolex"]
    return table([*head, *(f"MiB, {name}" for name in names)], lines)


def _refreshes(medians: Medians) -> str:
    """Rounds with scoring: on the whole model, on the held part, and on the held part for a shared plan."""
    names = {"fedsep_mask": "whole model", "fedsep_mask, held": "held part", "fedsep_shared, held": "held part, shared"}
    lines: list[list[object]] = []
    for level in _levels(medians, "fedsep_mask"):
        own = [medians.get((name, level, 2), {}) for name in names]
        told = [(_number(each, "refresh_seconds", 2), _number(each, "refresh_peak_mib", 0)) for each in own]
        lines.append([share(level), *(cell for pair in told for cell in pair)])
    return table(["capability", *(f"{what}, {name}" for name in names.values() for what in ("s", "MiB"))], lines)


def _refresh_told(medians: Medians) -> str:
    epoch = next(row["seconds"] for (_, _, steps), row in medians.items() if steps > 2)
    mask = medians["fedsep_mask", 1.0, 2]
    refresh = mask["refresh_seconds"] - mask["seconds"]
    return (
        f"Scoring the whole model takes {refresh:.1f} s, {refresh / epoch:.2f} of a full-size client's local epoch of "
        f"500 images ({epoch:.1f} s)."
    )


def _levels(medians: Medians, name: str) -> list[float]:
    return sorted({level for method, level, _ in medians if method == name}, reverse=True)


def _number(row: Mapping[str, float], name: str, digits: int) -> str:
    return f"{row[name]:,.{digits}f}" if name in row else ""


def _medians(rows: Sequence[Mapping[str, Any]]) -> Medians:
    """Medians over repeats."""
    found: dict[tuple[str, float, int], list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["method"], row["capability"], row["steps"]), []).append(row)
    figures = ("seconds", "refresh_seconds", "peak_mib", "refresh_peak_mib")
    return {key: {name: statistics.median(row[name] for row in own) for name in figures if name in own[0]}
            for key, own in found.items()}  # fmt: skip


def soft_labels_table() -> str:
    """Entropy of DS-FL's labels by round: of the clients' mean, and of what was agreed."""
    found = [_soft_labels(classes, run) for classes in (2, 5) for run in _runs(f"soft_labels_k{classes}")]
    heads = [f"{what}, round {number}" for number in LOOKED_AT for what in ("mean", "agreed")]
    return table(["classes a client", "labels", *heads, "test accuracy"], found) if found else NOT_RUN


def _soft_labels(classes: int, run: Path) -> list[object]:
    rows = {int(row["round"]): row for row in csv.DictReader((run / "metrics.csv").read_text().splitlines())}
    columns = ("server_entropy_of_mean", "server_entropy_agreed")
    told = [rows.get(number, {}).get(column) for number in LOOKED_AT for column in columns]
    entropies = [f"{float(value):.3f}" if value else "–" for value in told]  # none of a void round
    return [classes, run.parent.name, *entropies, f"{100 * float(rows[max(rows)]['test_accuracy']):.1f}"]


def _runs(record: str) -> list[Path]:
    return sorted(Path("records", record).glob("*/seed0"))
