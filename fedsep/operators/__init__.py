"""Linear operators S: R^d -> R^p, made from a key."""

from fedsep.operators.gaussian import Gaussian, gaussian
from fedsep.operators.hadamard import walsh_hadamard
from fedsep.operators.operator import LinearOperator, MakeOperator

__all__ = ["Gaussian", "LinearOperator", "MakeOperator", "gaussian", "walsh_hadamard"]
