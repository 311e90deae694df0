"""How the communication parameter becomes the learning parameter, and back."""

from fedsep.codecs.identity import Identity
from fedsep.codecs.implicit import Implicit
from fedsep.codecs.linear import Linear

__all__ = ["Identity", "Implicit", "Linear"]
