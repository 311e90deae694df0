"""How much of its machine a site gives: local steps and seconds for one client's part of a round."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from fedsep.core import FedSepError
from fedsep.gradients import watched
from fedsep.options import option_errors
from fedsep.ranges import Count, Positive


@dataclass(frozen=True)
class Limits:
    """What a client's part of a round may take at this site; ``seconds`` also bound whatever else a letter asks for.

    Attributes:
        steps: Gradients of the local loss; None: any number.
        seconds: Of wall-clock time; None: any.
    """

    steps: Count | None = None
    seconds: Positive | None = None

    def check(self) -> None:
        """Refuses limits that nothing could keep to.

        Raises:
            FedSepError: With every mistake.
        """
        errors = option_errors("limits", self)
        if errors:
            raise FedSepError("; ".join(errors))


class Exceeded(FedSepError):
    """A client's part took more than its site gives."""

    stage = "limits"


@dataclass
class Taken:
    """What a client's part has taken."""

    steps: int = 0
    seconds: float = 0.0


@contextmanager
def kept_to(limits: Limits, what: str = "a client's part of a round") -> Generator[Taken]:
    """Inside, a client's part is ended when it takes more than it may; what it took is counted.

    Time is looked at before every gradient and, in a program's main thread where the system has alarms, at any time.

    Args:
        limits: Of this site.
        what: What it gives them to.

    Raises:
        Exceeded: From whatever runs inside.
    """
    taken, began = Taken(), time.monotonic()

    def count() -> None:
        taken.steps += 1
        if limits.steps is not None and taken.steps > limits.steps:
            raise Exceeded(f"this site gives {limits.steps} local steps to {what}, and no more")
        if limits.seconds is not None and time.monotonic() - began > limits.seconds:
            raise _overtime(limits, what)

    try:
        with watched(count), _alarm(limits, what):
            yield taken
    finally:
        taken.seconds = time.monotonic() - began


@contextmanager
def _alarm(limits: Limits, what: str) -> Generator[None]:
    usable = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if limits.seconds is None or not usable:
        yield
        return

    def ring(number: int, frame: object) -> None:
        raise _overtime(limits, what)

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, limits.seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _overtime(limits: Limits, what: str) -> Exceeded:
    return Exceeded(f"this site gives {limits.seconds:g} s to {what}, and no more")
