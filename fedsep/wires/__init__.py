"""How a tree becomes bytes.

Wires are put together by nesting: ``error_feedback(topk(k=100, values=sign(), index="golomb"))``. What a wire
leaves of a message is what its inner wire sends; there is no other way of chaining.
"""

from fedsep.wires.dense import Dense, dense
from fedsep.wires.error_feedback import ErrorFeedback, error_feedback
from fedsep.wires.lloyd_max import LloydMax, lloyd_max
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
)
from fedsep.wires.sign import Sign, sign
from fedsep.wires.topk import TopK, topk

__all__ = [
    "Contraction",
    "Deferred",
    "Dense",
    "ErrorFeedback",
    "Exact",
    "LloydMax",
    "Lossy",
    "PerTensor",
    "Promise",
    "Sign",
    "TopK",
    "Unbiased",
    "advice",
    "dense",
    "error_feedback",
    "lloyd_max",
    "per_tensor",
    "promise_of",
    "sign",
    "topk",
]
