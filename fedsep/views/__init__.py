"""Which part of x a client is sent."""

from fedsep.views.catch_up import Calendar, CatchUp
from fedsep.views.changes import Changes
from fedsep.views.missed import Missed
from fedsep.views.whole import Whole

__all__ = ["Calendar", "CatchUp", "Changes", "Missed", "Whole"]
