"""The finished runs of a figure, by line, split and p, and the figures that are drawn and told of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fedsep.paper.lines import Line
from fedsep.report.curve import Curve
from fedsep.report.grouping import Group
from fedsep.report.reading import RunData, finite
from fedsep.report.spread import Spread, figures, spread

FLOAT = 4
"""Bytes of a number, with which the communication rate is defined."""


@dataclass(frozen=True)
class Result:
    """A line at one p, on one split.

    Attributes:
        line: Of the figure.
        split: How the data are dealt.
        p: Communication dimension; None where it has none.
        runs: Its finished runs, one a seed.
    """

    line: Line
    split: str
    p: int | None
    runs: tuple[RunData, ...]

    @property
    def accuracy(self) -> Spread:
        """The metric on test data after the last round, over seeds."""
        return spread(figures(run, run.metric or "")["last"] for run in self.runs)

    @property
    def up_bytes(self) -> float:
        """Payload bytes that a client sends in a round."""
        return self._of_a_round("bytes_up")

    @property
    def down_bytes(self) -> float:
        """Payload bytes that a client is sent in a round."""
        return self._of_a_round("bytes_down")

    @property
    def round_bytes(self) -> float:
        """Payload bytes of a client in a round, up + down."""
        return self.up_bytes + self.down_bytes

    @property
    def header_bytes(self) -> float:
        """Header bytes of a client in a round."""
        return self._of_a_round("header_bytes")

    @property
    def d(self) -> int:
        """Parameters of the model."""
        return int(self.runs[0].summary["parameters"])

    @property
    def rate(self) -> float:
        """(up + down bytes) / (2 * 4 d): 1 where the model travels both ways."""
        return self.round_bytes / (2 * FLOAT * self.d)

    @property
    def rate_up(self) -> float:
        """Up bytes / 4 d."""
        return self.up_bytes / (FLOAT * self.d)

    @property
    def rate_down(self) -> float:
        """Down bytes / 4 d."""
        return self.down_bytes / (FLOAT * self.d)

    @property
    def rate_dense_down(self) -> float | None:
        """The rate if the whole model were sent down, 4 d; None for lines of which nobody counts that."""
        return (self.rate_up + 1) / 2 if self.line.dense else None

    @property
    def p_over_d(self) -> float | None:
        """p / d; None without p."""
        return None if self.p is None else self.p / self.d

    @property
    def figures(self) -> dict[str, float | int | None]:
        """What the runs came to, as plain numbers."""
        return {
            "seeds": len(self.runs),
            "accuracy": self.accuracy["mean"],
            "deviation": self.accuracy["std"],
            "payload_bytes": round(self.round_bytes, 1),
            "header_bytes": self.header_bytes,
            "rate": self.rate,
            "rate_up": self.rate_up,
            "rate_down": self.rate_down,
            "rate_dense_down": self.rate_dense_down,
            "p_over_d": self.p_over_d,
        }

    @property
    def group(self) -> Group:
        """The runs as the report's curves take them."""
        return Group(self.line.label, self.runs, {})

    def _of_a_round(self, column: str) -> float:
        """A cumulative column at the end, per client and round; mean over seeds."""
        return _mean([(finite(run.rows[-1].get(column)) or 0.0) / _client_rounds(run) for run in self.runs])


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows of equal names as comma-separated values; None is an empty cell."""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def over_p(results: Sequence[Result], split: str, against: Callable[[Result], float | None]) -> list[Curve]:
    """Each line's metric at the end against something of its results: mean and deviation over seeds."""
    made: list[Curve] = []
    for line in dict.fromkeys(result.line for result in results):
        own = [result for result in results if result.line is line and result.split == split]
        points = [(x, result.accuracy, len(result.runs)) for result in own if (x := against(result)) is not None]
        points = sorted((point for point in points if point[1]["mean"] is not None), key=lambda point: point[0])
        if points:
            made.append(
                Curve(
                    line.label,
                    line.style,
                    [x for x, _, _ in points],
                    [value["mean"] or 0.0 for _, value, _ in points],
                    [value["std"] or 0.0 for _, value, _ in points],
                    max(seeds for _, _, seeds in points),
                    [],
                )
            )
    return made


def _client_rounds(run: RunData) -> float:
    return run.rounds * float(run.summary["clients"])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
