"""Which part of x a client is sent."""

from fedsep.calendar import Calendar
from fedsep.views.blocks import Blocks
from fedsep.views.catch_up import CatchUp
from fedsep.views.changes import Changes
from fedsep.views.missed import Missed
from fedsep.views.personal import Personal
from fedsep.views.plans import KeptRandom, Plan, Random, Rolling, SharedRandom, Static
from fedsep.views.refresh import Refresh
from fedsep.views.shared import Shared
from fedsep.views.submodel import Submodel
from fedsep.views.whole import Whole

__all__ = [
    "Blocks",
    "Calendar",
    "CatchUp",
    "Changes",
    "KeptRandom",
    "Missed",
    "Personal",
    "Plan",
    "Random",
    "Refresh",
    "Rolling",
    "Shared",
    "SharedRandom",
    "Static",
    "Submodel",
    "Whole",
]
