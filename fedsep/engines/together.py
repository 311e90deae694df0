"""What some engines can do beside ``open``, asked of any: work in several processes that all call ``fit``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fedsep.core import Algorithm, Task
from fedsep.engines.engine import Engine, Fleet


def within(engine: Any) -> Any:
    """The engine itself, without the faults that its clients' replies are to meet."""
    while hasattr(engine, "faults"):
        engine = engine.engine
    return engine


def instead(engine: Any, chosen: Engine) -> Engine:
    """Another engine with the same faults."""
    return replace(engine, engine=instead(engine.engine, chosen)) if hasattr(engine, "faults") else chosen


def followed(engine: object, algorithm: Algorithm[Any, Any], task: Task, fleet: Fleet) -> Any:
    """What came of a run in which another process leads; None if this one is to lead."""
    follow = getattr(within(engine), "follow", None)
    return None if follow is None else follow(algorithm, task, fleet)


def share(engine: object, result: Any) -> None:
    """Gives what came of a run to the processes that followed."""
    tell = getattr(within(engine), "share", None)
    if tell is not None:
        tell(result)
