"""What some engines can do beside ``open``, asked of any engine: work in several processes that all call ``fit``."""

from __future__ import annotations

from typing import Any

from fedsep.core import Algorithm, Task
from fedsep.engines.engine import Fleet


def within(engine: Any) -> Any:
    """The engine itself, without the faults that its clients' replies are to meet."""
    while hasattr(engine, "faults"):
        engine = engine.engine
    return engine


def followed(engine: object, algorithm: Algorithm[Any, Any], task: Task, fleet: Fleet) -> Any:
    """What came of a run in which another process leads; None if this one is to lead."""
    follow = getattr(within(engine), "follow", None)
    return None if follow is None else follow(algorithm, task, fleet)


def share(engine: object, result: Any) -> None:
    """Gives what came of a run to the processes that followed."""
    tell = getattr(within(engine), "share", None)
    if tell is not None:
        tell(result)
