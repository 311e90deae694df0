"""Which part of x a client is sent."""

from fedsep.views.catch_up import CatchUp
from fedsep.views.whole import Whole

__all__ = ["CatchUp", "Whole"]
