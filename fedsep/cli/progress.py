"""How a run is getting on: a bar that is drawn over, or a line every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fedsep.report.wording import bytes_text, seconds_text

SECONDS = 5.0
"""Longest silence where there is no terminal."""


class Event(Protocol):
    """What ``fit`` tells after every round."""

    @property
    def round(self) -> int:
        """Rounds done."""
        ...

    @property
    def rounds(self) -> int:
        """Rounds of the run."""
        ...

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The round's row of metrics."""
        ...

    @property
    def bytes_up(self) -> int:
        """Payload bytes so far, from all clients."""
        ...

    @property
    def bytes_down(self) -> int:
        """Payload bytes so far, to all clients."""
        ...


Watch = Callable[[Event], None]


class Pace:
    """Rounds a second and the latest score, from the events of this process: a resumed run starts counting anew."""

    def __init__(self) -> None:
        """Starts the clock."""
        self.started, self.first, self.score = time.monotonic(), -1, ""

    def see(self, event: Event) -> float:
        """Takes an event into account; rounds a second since the start."""
        if self.first < 0:
            self.first = event.round - 1
        self.score = score(event.metrics) or self.score
        return (event.round - self.first) / max(time.monotonic() - self.started, 1e-9)


def score(metrics: Mapping[str, Any]) -> str:
    """The headline figure of a round in which the model was evaluated, else empty."""
    for prefix in ("test_", "validation_"):
        for name, value in metrics.items():
            if name.startswith(prefix) and isinstance(value, int | float):
                return f"{name.removeprefix('test_').replace('_', ' ')} {value:.3f}"
    return ""


@contextmanager
def bar(console: Console, title: str, rounds: int) -> Iterator[Watch]:
    """A bar with rounds a second, time left, score and bytes; when the run is over, a line stands in its place."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=max(5, min(24, console.width - 74))),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[score]}"),
        TextColumn("{task.fields[sent]}"),
    )
    pace = Pace()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=rounds, pace="", score="", sent="")

        def watch(event: Event) -> None:
            speed = pace.see(event)
            sent = bytes_text(event.bytes_up + event.bytes_down)
            progress.update(task, completed=event.round, pace=_speed(speed), score=pace.score, sent=sent)

        yield watch
        done, sent = progress.tasks[0], progress.tasks[0].fields["sent"]
    told = (title, f"{done.completed:.0f} rounds", pace.score, sent, seconds_text(time.monotonic() - pace.started))
    console.print(" · ".join(word for word in told if word))


def lines(say: Callable[[str], None], title: str, patience: float = 1.0) -> Watch:
    """A line at an evaluation if the last line is a second old, otherwise every ``SECONDS``, and at the end.

    Args:
        say: Takes a line.
        title: Stands before it.
        patience: Factor of both times, where several runs take turns.
    """
    pace, last = Pace(), [time.monotonic()]

    def watch(event: Event) -> None:
        speed, now = pace.see(event), time.monotonic()
        silence = patience * (1.0 if score(event.metrics) else SECONDS)
        if event.round < event.rounds and now - last[0] < silence:
            return
        last[0] = now
        left = f"{seconds_text((event.rounds - event.round) / speed)} left" if event.round < event.rounds else ""
        words = [f"round {event.round}/{event.rounds}", _speed(speed), left, pace.score]
        say(" · ".join(word for word in (title, *words, bytes_text(event.bytes_up + event.bytes_down)) if word))

    return watch


def _speed(rounds: float) -> str:
    return f"{rounds:.0f} rounds/s" if rounds >= 10 else f"{rounds:.2g} rounds/s"
