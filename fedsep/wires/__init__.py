"""How a tree becomes bytes.

Wires are put together by nesting: ``error_feedback(topk(k=100, values=sign(), index="golomb"))``. What a wire
leaves of a message is what its inner wire sends; there is no other way of chaining.
"""

from fedsep.wires.by_name import ByName, by_name
from fedsep.wires.clip import Clip, clip
from fedsep.wires.count_sketch import CountSketchWire, count_sketch
from fedsep.wires.dense import Dense, dense
from fedsep.wires.eden import eden
from fedsep.wires.error_feedback import ErrorFeedback, error_feedback
from fedsep.wires.lloyd_max import LloydMax, lloyd_max
from fedsep.wires.low_rank import LowRank, low_rank
from fedsep.wires.momentum_correction import MomentumCorrection, momentum_correction
from fedsep.wires.per_tensor import PerTensor, per_tensor
from fedsep.wires.promises import (
    Contraction,
    Deferred,
    Exact,
    Lossy,
    Promise,
    Unbiased,
    advice,
    promise_of,
    varies,
)
from fedsep.wires.qsgd import QSGD, qsgd
from fedsep.wires.random_k import RandomK, random_k
from fedsep.wires.rotated import Rotated, rotated
from fedsep.wires.sign import Sign, sign
from fedsep.wires.staged import Staged, staged
from fedsep.wires.ternary import Ternary, ternary
from fedsep.wires.topk import TopK, topk

__all__ = [
    "QSGD",
    "ByName",
    "Clip",
    "Contraction",
    "CountSketchWire",
    "Deferred",
    "Dense",
    "ErrorFeedback",
    "Exact",
    "LloydMax",
    "Lossy",
    "LowRank",
    "MomentumCorrection",
    "PerTensor",
    "Promise",
    "RandomK",
    "Rotated",
    "Sign",
    "Staged",
    "Ternary",
    "TopK",
    "Unbiased",
    "advice",
    "by_name",
    "clip",
    "count_sketch",
    "dense",
    "eden",
    "error_feedback",
    "lloyd_max",
    "low_rank",
    "momentum_correction",
    "per_tensor",
    "promise_of",
    "qsgd",
    "random_k",
    "rotated",
    "sign",
    "staged",
    "ternary",
    "topk",
    "varies",
]
