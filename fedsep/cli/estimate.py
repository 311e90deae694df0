"""How long runs will take, from those that are done."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fedsep.cli.carry_out import Todo
from fedsep.cli.plan import Job, state_of
from fedsep.cli.screen import Screen
from fedsep.report import read_run
from fedsep.report.reading import finite
from fedsep.report.wording import plural, seconds_text

Kind = tuple[str, ...]
"""What runs of one duration have in common, the most telling first: recipe and method, then the method alone."""


@dataclass(frozen=True)
class Durations:
    """Seconds a run took, by kind; a kind that is unknown is judged by its last part, then by all."""

    known: dict[Kind, list[float]] = field(default_factory=dict[Kind, list[float]])

    def see(self, kind: Kind, job: Job) -> None:
        """Takes a finished run into account."""
        rows = read_run(job.folder).rows
        times = (
            [finite(rows[-1].get(name)) or 0.0 for name in ("wall_seconds", "wall_evaluation_seconds")] if rows else []
        )
        if sum(times) > 0:
            self.known.setdefault(kind, []).append(sum(times))

    def tell(self, kind: Kind) -> float | None:
        """Seconds that a run of this kind takes; None while no run is over."""
        like = [value for other, values in self.known.items() if other[-1] == kind[-1] for value in values]
        every = [value for values in self.known.values() for value in values]
        values = self.known.get(kind) or like or every
        return statistics.fmean(values) if values else None

    def left(self, kinds: Iterable[Kind]) -> float | None:
        """Seconds for all of these, one after the other."""
        told = [self.tell(kind) for kind in kinds]
        known = [value for value in told if value is not None]
        return sum(known) if len(known) == len(told) else None


@dataclass
class Countdown:
    """Says before every run how many are left and how long they will take.

    Attributes:
        screen: Where it is said.
        left: Runs that are to be done or under way.
        kind: Tells what a run's duration depends on.
        at_once: Runs that are done at a time.
        durations: Of runs that are done.
    """

    screen: Screen
    left: list[Todo]
    kind: Callable[[Todo], Kind]
    at_once: int = 1
    durations: Durations = field(default_factory=Durations)

    def begin(self, one: Todo) -> None:
        """A run is about to begin."""
        seconds = self.durations.left(map(self.kind, self.left))
        time = "" if seconds is None else f", about {seconds_text(seconds / min(self.at_once, len(self.left)))}"
        self.screen.note(f"{one.job.folder}: {plural(len(self.left), 'run')} left{time}")

    def end(self, one: Todo) -> None:
        """It is over; if it is done, it tells how long others take."""
        self.left = [other for other in self.left if other.job != one.job]
        if state_of(one.job, one.recipe) == "done":
            self.durations.see(self.kind(one), one.job)
