"""Engines run the clients of a round; all give the same round, `vectorised` but for rounding."""

from fedsep.engines.auto import auto
from fedsep.engines.engine import Delivered, Engine, Fleet, Local, Session
from fedsep.engines.faults import Faults, Faulty, faulty
from fedsep.engines.flower import flower
from fedsep.engines.sequential import sequential
from fedsep.engines.torchrun import torchrun
from fedsep.engines.vectorised import vectorised
from fedsep.engines.workers import workers

__all__ = [
    "Delivered",
    "Engine",
    "Faults",
    "Faulty",
    "Fleet",
    "Local",
    "Session",
    "auto",
    "faulty",
    "flower",
    "sequential",
    "torchrun",
    "vectorised",
    "workers",
]
