"""How the clients' changes move x."""

from fedsep.servers.adaptive import adam, yogi
from fedsep.servers.optimize import Optimize, Rule
from fedsep.servers.reduce import coverage_mean, mean
from fedsep.servers.sgd import sgd

__all__ = ["Optimize", "Rule", "adam", "coverage_mean", "mean", "sgd", "yogi"]
