"""Linear operators S: R^d -> R^p, made from a key."""

from fedsep.operators.block_srht import BlockSRHT, block_srht
from fedsep.operators.coordinates import Coordinates, coordinates
from fedsep.operators.dct import SubsampledDCT, dct
from fedsep.operators.gaussian import Gaussian, gaussian
from fedsep.operators.hadamard import walsh_hadamard
from fedsep.operators.operator import LinearOperator, MakeOperator
from fedsep.operators.srht import SRHT, srht

__all__ = [
    "SRHT",
    "BlockSRHT",
    "Coordinates",
    "Gaussian",
    "LinearOperator",
    "MakeOperator",
    "SubsampledDCT",
    "block_srht",
    "coordinates",
    "dct",
    "gaussian",
    "srht",
    "walsh_hadamard",
]
