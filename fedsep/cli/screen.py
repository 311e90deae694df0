"""What is said, and where: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table

from fedsep.cli.options import Talk
from fedsep.cli.progress import Watch, bar, lines

WIDTH = 120
"""Columns where nobody says how wide the output is."""


class Screen:
    """Says things as the user wants them said."""

    def __init__(self, talk: Talk) -> None:
        """Looks up the streams now, so that a test may have replaced them."""
        self.talk = talk
        self.results = console(sys.stderr if talk.json else sys.stdout)
        self.notes = console(sys.stderr)

    def note(self, text: str) -> None:
        """One line about what is going on."""
        if not self.talk.quiet:
            self.warn(text)

    def warn(self, text: str) -> None:
        """Something that went wrong: said even when quiet."""
        self.notes.print(text, soft_wrap=True)

    def result(self, thing: Table | str) -> None:
        """A result for the user to read."""
        if not self.talk.quiet:
            self.results.print(thing, soft_wrap=isinstance(thing, str))

    def finished(self, summary: Mapping[str, Any]) -> None:
        """A finished run as one line of JSON, if the user wants that."""
        if self.talk.json:
            print(json.dumps(brief(summary), allow_nan=False), flush=True)

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Says what the package's log is told meanwhile: warnings as such, the rest as notes."""
        log, handler = logging.getLogger("fedsep"), _Teller(self)
        level = log.level
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        try:
            yield
        finally:
            log.setLevel(level)
            log.removeHandler(handler)

    @contextmanager
    def watching(self, title: str, rounds: int) -> Iterator[Watch | None]:
        """Shows a run's progress: a bar on a terminal, lines elsewhere."""
        if self.talk.quiet:
            yield None
        elif self.notes.is_terminal:
            with bar(self.notes, title, rounds) as watch:
                yield watch
        else:
            yield lines(self.note, title)


class _Teller(logging.Handler):
    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        say = self._screen.warn if record.levelno >= logging.WARNING else self._screen.note
        say(record.getMessage())


def console(stream: Any) -> Console:
    """A console on a stream; what is no terminal gets lines long enough for tables."""
    terminal = hasattr(stream, "isatty") and stream.isatty()
    return Console(file=stream, width=None if terminal else WIDTH, markup=False, highlight=False)


def brief(summary: Mapping[str, Any]) -> dict[str, Any]:
    """A run's summary with the fields that ``--json`` promises."""
    metrics = {
        name: {key: _number(values.get(key)) for key in ("last", "best", "mean_last")}
        for name, values in summary["metrics"].items()
    }
    return {
        **{key: summary[key] for key in ("run", "method", "seed", "rounds")},
        "metrics": metrics,
        "bytes": {way: _number(summary["bytes"][way]) for way in ("up", "down")},
        "seconds": summary["seconds"],
    }


def _number(value: Any) -> Any:
    """JSON has no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
