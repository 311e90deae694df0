"""Engines run the clients of a round; all give the same bits."""

from fedsep.engines.sequential import sequential
from fedsep.engines.workers import workers

__all__ = ["sequential", "workers"]
