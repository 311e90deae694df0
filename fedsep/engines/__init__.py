"""Engines run the clients of a round; all give the same round, `vectorised` but for rounding."""

from fedsep.engines.engine import Delivered, Engine, Fleet, Local, Session
from fedsep.engines.sequential import sequential
from fedsep.engines.vectorised import vectorised
from fedsep.engines.workers import workers

__all__ = ["Delivered", "Engine", "Fleet", "Local", "Session", "sequential", "vectorised", "workers"]
