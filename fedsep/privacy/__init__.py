"""Differential privacy of clients: methods whose changes are clipped and covered by noise, and what that is worth.

``central`` and ``distributed`` go around a method. In a recipe:
``{use: fedsep.privacy.central, method: {use: fedsep.algorithms.fedavg, ...}, clip: 0.5, noise: 2, replies: 100}``.
"""

from fedsep.privacy.accountant import Rounds, epsilon
from fedsep.privacy.central import Central, central
from fedsep.privacy.distributed import FixedMean, NoiseShare, distributed
from fedsep.privacy.dp_sgd import PrivateSteps, dp_sgd
from fedsep.privacy.guarantee import Guarantee
from fedsep.privacy.meter import Meter

__all__ = [
    "Central",
    "FixedMean",
    "Guarantee",
    "Meter",
    "NoiseShare",
    "PrivateSteps",
    "Rounds",
    "central",
    "distributed",
    "dp_sgd",
    "epsilon",
]
