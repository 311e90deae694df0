"""Why a piece of work gave nothing."""

from __future__ import annotations

import signal
import traceback
from typing import NamedTuple

from fedsep.core import FedSepError


class Lost(NamedTuple):
    """A piece of work that gave nothing: where it was, why, and the error's traceback (empty if there was none)."""

    stage: str
    reason: str
    traceback: str = ""


def lost(error: Exception, stage: str) -> Lost:
    """An error as a value; a user's mistake comes without its traceback. ``stage`` is for errors that name none."""
    mistake = isinstance(error, FedSepError)
    reason = str(error) if mistake else f"{type(error).__name__}: {error}"
    trace = "" if mistake else "".join(traceback.format_exception(error))
    return Lost(getattr(error, "stage", stage), reason, trace)


def death(exitcode: int | None, deaths: int) -> str:
    """The end of a process in words: a negative exit code is the signal that killed it."""
    times = "" if deaths == 1 else f" {deaths} times"
    if exitcode is None or exitcode >= 0:
        return f"worker process died{times} (exit code {exitcode})"
    hint = "; perhaps memory ran out: use fewer processes" if exitcode == -signal.SIGKILL else ""
    return f"worker process died{times} (signal {-exitcode}, {_name(-exitcode)}{hint})"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return "unnamed"
