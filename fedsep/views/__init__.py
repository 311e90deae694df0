"""Which part of x a client is sent."""

from fedsep.calendar import Calendar
from fedsep.views.catch_up import CatchUp
from fedsep.views.changes import Changes
from fedsep.views.missed import Missed
from fedsep.views.whole import Whole

__all__ = ["Calendar", "CatchUp", "Changes", "Missed", "Whole"]
