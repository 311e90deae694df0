"""How the clients' changes move x."""

from fedsep.servers.adaptive import adam, yogi
from fedsep.servers.announce import Announce
from fedsep.servers.control_variate import Controls
from fedsep.servers.fetchsgd import FetchSGD
from fedsep.servers.optimize import Optimize, Reduced, Rule, reduced
from fedsep.servers.reduce import coverage_mean, mean
from fedsep.servers.robust import coordinate_median, norm_clipping, trimmed_mean
from fedsep.servers.sgd import sgd
from fedsep.servers.track import Track

__all__ = [
    "Announce",
    "Controls",
    "FetchSGD",
    "Optimize",
    "Reduced",
    "Rule",
    "Track",
    "adam",
    "coordinate_median",
    "coverage_mean",
    "mean",
    "norm_clipping",
    "reduced",
    "sgd",
    "trimmed_mean",
    "yogi",
]
