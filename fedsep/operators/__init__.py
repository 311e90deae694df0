"""Linear operators S: R^d -> R^p, made from a key.

| factory | rows orthonormal | products |
|---|---|---|
| ``gaussian`` | yes; as drawn: no | p d multiplications, stored |
| ``regenerated`` | no | p d draws, nothing stored |
| ``block_srht`` | yes, for every d | 12 d additions |
| ``srht`` | where d is a power of two | d log d additions |
| ``dct`` | yes | one FFT of length d |
| ``sparse_signs`` | with one nonzero a column | s d additions |
| ``count_sketch`` | no | r d additions |
| ``coordinates`` | yes | p reads |

``per_layer``, ``composed`` and ``scaled`` make factories of factories.
"""

from fedsep.operators.block_srht import BlockSRHT, block_srht
from fedsep.operators.composed import Composed, composed
from fedsep.operators.coordinates import Coordinates, coordinates
from fedsep.operators.count_sketch import CountSketch, count_sketch
from fedsep.operators.dct import SubsampledDCT, dct
from fedsep.operators.gaussian import Gaussian, gaussian
from fedsep.operators.hadamard import walsh_hadamard
from fedsep.operators.operator import LinearOperator, MakeOperator
from fedsep.operators.per_layer import BlockDiagonal, per_layer
from fedsep.operators.regenerated import Regenerated, regenerated
from fedsep.operators.scaled import Scaled, scaled
from fedsep.operators.sparse_signs import SparseSigns, sparse_signs
from fedsep.operators.srht import SRHT, srht

__all__ = [
    "SRHT",
    "BlockDiagonal",
    "BlockSRHT",
    "Composed",
    "Coordinates",
    "CountSketch",
    "Gaussian",
    "LinearOperator",
    "MakeOperator",
    "Regenerated",
    "Scaled",
    "SparseSigns",
    "SubsampledDCT",
    "block_srht",
    "composed",
    "coordinates",
    "count_sketch",
    "dct",
    "gaussian",
    "per_layer",
    "regenerated",
    "scaled",
    "sparse_signs",
    "srht",
    "walsh_hadamard",
]
