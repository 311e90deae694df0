"""Which part of x a client is sent."""

from fedsep.calendar import Calendar
from fedsep.views.blocks import Blocks
from fedsep.views.catch_up import CatchUp
from fedsep.views.changes import Changes
from fedsep.views.missed import Missed
from fedsep.views.plans import Plan, Random, Rolling, Static
from fedsep.views.submodel import Submodel
from fedsep.views.whole import Whole

__all__ = [
    "Blocks",
    "Calendar",
    "CatchUp",
    "Changes",
    "Missed",
    "Plan",
    "Random",
    "Rolling",
    "Static",
    "Submodel",
    "Whole",
]
