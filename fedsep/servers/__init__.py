"""How the clients' changes move x."""

from fedsep.servers.adaptive import adam, yogi
from fedsep.servers.announce import Announce
from fedsep.servers.control_variate import Controls
from fedsep.servers.fetchsgd import FetchSGD
from fedsep.servers.optimize import Optimize, Rule
from fedsep.servers.reduce import coverage_mean, mean
from fedsep.servers.sgd import sgd
from fedsep.servers.track import Track

__all__ = [
    "Announce",
    "Controls",
    "FetchSGD",
    "Optimize",
    "Rule",
    "Track",
    "adam",
    "coverage_mean",
    "mean",
    "sgd",
    "yogi",
]
