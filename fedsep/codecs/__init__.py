"""How the communication parameter becomes the learning parameter, and back."""

from fedsep.codecs.control_variate import ControlVariate
from fedsep.codecs.identity import Identity
from fedsep.codecs.implicit import Implicit
from fedsep.codecs.lasso import Lasso
from fedsep.codecs.linear import Linear
from fedsep.codecs.patched import Patched
from fedsep.codecs.present import Present
from fedsep.codecs.replay import Replay
from fedsep.codecs.spaces import Plain, Sketched

__all__ = [
    "ControlVariate",
    "Identity",
    "Implicit",
    "Lasso",
    "Linear",
    "Patched",
    "Plain",
    "Present",
    "Replay",
    "Sketched",
]
