"""What came out of a setting: each row's accuracies over seeds, rounds to the target, and what a client pays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fedsep.paper.table1.costs import Costs
from fedsep.paper.table1.rows import Row
from fedsep.paper.table1.settings import Setting
from fedsep.report.cells import over
from fedsep.report.curve import curve, rounds
from fedsep.report.grouping import Group
from fedsep.report.ledger import failed_replies
from fedsep.report.reading import RunData, finite
from fedsep.report.spread import Spread, column, evaluations, figures, spread
from fedsep.report.wording import NONE, bytes_text, count_text

MODELS = {
    "full": "accuracy",
    "served": "served_accuracy",
    "averaged": "average_accuracy",
    "averaged, served": "average_served_accuracy",
}
"""Which model of the server's is evaluated: whole, at its best width, and both of the average over rounds."""

_ROUNDS = 1000
"""From here on a run is as long as the published ones, which had thousands of rounds."""

CURVES = ("served", "averaged, served")
"""Models of which every evaluation is kept."""

FIGURES = {"last": "last", "best": "best", "mean of last": "mean_last"}
"""Figures of each."""


@dataclass(frozen=True)
class Result:
    """A row in a setting.

    Attributes:
        row: Of the table.
        setting: Of the table.
        runs: Finished runs, one a seed.
        bytes: Payload of a client in a round, up and down, by capability.
        macs: Multiply-adds of a client in a round, by capability.
    """

    row: Row
    setting: Setting
    runs: tuple[RunData, ...]
    bytes: Costs
    macs: Costs

    def accuracy(self, model: str, figure: str) -> Spread:
        """Of ``MODELS`` and ``FIGURES``, over seeds."""
        return spread(figures(run, MODELS[model])[FIGURES[figure]] for run in self.runs)

    @property
    def width(self) -> list[float]:
        """The widths that were served last, one a seed."""
        return [width for run in self.runs if (width := finite(run.rows[-1].get("served_width"))) is not None]

    @property
    def density(self) -> list[float]:
        """The shares of the weights that were served last, one a seed, of a method that chooses among several."""
        return [share for run in self.runs if (share := finite(run.rows[-1].get("served_density"))) is not None]

    @property
    def own_classes(self) -> Spread:
        """Of clients with sub-models of a quarter on their own test parts, mean over the last evaluations."""
        return spread(figures(run, "client_held_accuracy")["mean_last"] for run in self.runs)

    @property
    def failed_replies(self) -> int:
        """Replies of all runs that were not folded: where there are any, the row is not what it says."""
        return sum(int(finite(row.get("failures")) or 0) for run in self.runs for row in run.rows)

    @property
    def to_target(self) -> list[float | None]:
        """Rounds after which served accuracy first is at the setting's target, one a seed; None: not reached."""
        return [_reached(run, self.setting.target) for run in self.runs]


def _reached(run: RunData, target: float) -> float | None:
    pairs = evaluations(run, "test_served_accuracy")
    return next((float(row["round"]) for row, value in pairs if value >= target), None)


def lost(results: Iterable[Result]) -> list[str]:
    """Rows some of whose replies failed, with how many did, and the first of them."""
    return [
        f"{result.row.label}, {result.setting.words}, seed {run.seed}: {told}"
        for result in results if result.failed_replies
        for run in result.runs if (told := failed_replies(run.folder))
    ]  # fmt: skip


def percent(value: Spread, of: int) -> str:
    """An accuracy in per cent with its deviation over seeds."""
    mean, std = value["mean"], value["std"]
    scaled = Spread(mean=None if mean is None else 100 * mean, std=None if std is None else 100 * std, n=value["n"])
    return over(scaled, of, lambda each: NONE if each is None else f"{each:.2f}")


def accuracy_cells(result: Result) -> dict[str, str]:
    """The row's accuracies as text: everything but costs."""
    of = len(result.runs)
    made = {"method": result.row.label, "seeds": str(of)}
    for model in MODELS:
        for figure in FIGURES:
            made[f"{model}: {figure}"] = percent(result.accuracy(model, figure), of)
    made["served width"] = ", ".join(f"{width:g}" for width in sorted(set(result.width))) or NONE
    made["served density"] = ", ".join(f"{share:g}" for share in sorted(set(result.density))) or NONE
    made["own classes at 1/4"] = NONE if result.row.kind == "bound" else percent(result.own_classes, of)
    made[f"rounds to {100 * result.setting.target:g} %"] = target_text(result)
    return {**made, "published, other protocol where noted": published(result)}


def cost_cells(result: Result) -> dict[str, str]:
    """What a client pays, as text."""
    made = {"method": result.row.label}
    for level in result.setting.capabilities:
        made[f"bytes at {share(level)}"] = bytes_text(_rounded(result.bytes.get(level)))
    for level in result.setting.capabilities:
        made[f"MACs at {share(level)}"] = macs_text(result.macs.get(level))
    return made


def short_cells(result: Result) -> dict[str, str]:
    """The row for a terminal: means of the last evaluations, and costs of the strongest and the weakest client."""
    of, ends = len(result.runs), (max(result.setting.capabilities), min(result.setting.capabilities))
    bytes_each = [bytes_text(_rounded(result.bytes.get(level))) for level in ends]
    macs = [macs_text(result.macs.get(level)) for level in ends]
    last = {model: percent(result.accuracy(model, "mean of last"), of) for model in ("full", "served")}
    return {
        "method": result.row.label,
        "seeds": str(of),
        "final": percent(result.accuracy("full", "last"), of),
        "best": percent(result.accuracy("full", "best"), of),
        "full": last["full"],
        "served": last["served"],
        "averaged": percent(result.accuracy("averaged, served", "mean of last"), of),
        f"to {100 * result.setting.target:g} %": target_text(result),
        "bytes": " – ".join(bytes_each),
        "MACs": " – ".join(macs),
        "published": published(result),
    }


def published(result: Result) -> str:
    """The paper's figure; on which data, where these are others."""
    setting, row = result.setting, result.row
    own = row.published.get(f"{setting.data} {setting.k}")
    if own is not None:
        return f"{own[0]:.2f} ± {own[1]:.2f}{'' if _as_published(result) else ' (other protocol)'}"
    # With other classes in all, as many of a client's own are another problem.
    other = None if setting.data == "cifar100" else row.published.get(f"cifar10 {setting.k}")
    return NONE if other is None else f"{other[0]:.2f} ± {other[1]:.2f} (CIFAR-10)"


def _as_published(result: Result) -> bool:
    """Whether model, clients and length are the paper's, which for distillation took figures of another task."""
    of = result.setting
    alike = of.widths == ("width", 64) and 1.0 in of.capabilities and of.rounds >= _ROUNDS
    return alike and result.row.kind != "kd"


def target_text(result: Result) -> str:
    """Mean rounds to the target, and of how many seeds where not all reached it."""
    known = [rounds for rounds in result.to_target if rounds is not None]
    if not known:
        return "not reached"
    part = f" ({len(known)} of {len(result.runs)})" if len(known) < len(result.runs) else ""
    return count_text(sum(known) / len(known)) + part


def share(level: float) -> str:
    """A capability as 1, 1/2, 1/4, ..., else as it is."""
    whole = 1 / level
    return "1" if level == 1 else f"1/{round(whole)}" if abs(whole - round(whole)) < 1e-9 else f"{level:g}"


def macs_text(value: float | None) -> str:
    """Multiply-adds: 123 M, 1.2 G."""
    if value is None:
        return NONE
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f}"


def record(result: Result) -> Mapping[str, object]:
    """The row's numbers, ready for JSON."""
    return {
        "row": result.row.name,
        "setting": result.setting.name,
        "seeds": [run.seed for run in result.runs],
        "accuracy": {model: {f: result.accuracy(model, f) for f in FIGURES} for model in MODELS},
        "each": {model: [figures(run, name)["mean_last"] for run in result.runs] for model, name in MODELS.items()},
        "curves": {model: _curve(result, MODELS[model]) for model in CURVES},
        "served_width": result.width,
        "served_density": result.density,
        "failed_replies": result.failed_replies,
        "own_classes": result.own_classes,
        "own_classes_each": [figures(run, "client_held_accuracy")["mean_last"] for run in result.runs],
        "target": result.setting.target,
        "rounds_to_target": result.to_target,
        "bytes": {f"{level:g}": value for level, value in result.bytes.items()},
        "macs": {f"{level:g}": value for level, value in result.macs.items()},
        "published": dict(result.row.published),
    }


def _curve(result: Result, metric: str) -> dict[str, list[float]]:
    """Test accuracy at every evaluation, mean and deviation over seeds."""
    found = curve(Group(result.row.label, result.runs, {}), 0, column(metric), rounds)
    return {"round": [], "mean": [], "std": []} if found is None else {
        "round": found.x, "mean": found.mean, "std": found.std}  # fmt: skip


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(round(value))
