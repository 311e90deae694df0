"""Which part of x a client is sent."""

from fedsep.views.catch_up import Calendar, CatchUp
from fedsep.views.whole import Whole

__all__ = ["Calendar", "CatchUp", "Whole"]
