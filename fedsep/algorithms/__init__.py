"""One factory a method; each is a choice of view, codec, learner, wires and server."""

from fedsep.algorithms.fedavg import fedavg
from fedsep.algorithms.fedprox import fedprox
from fedsep.algorithms.fedsep_implicit import fedsep_implicit
from fedsep.algorithms.fedsep_lasso import fedsep_lasso
from fedsep.algorithms.fedsep_linear import fedsep_linear
from fedsep.algorithms.fedsep_personal import fedsep_personal
from fedsep.algorithms.fedsep_quantised import fedsep_quantised
from fedsep.algorithms.scaffold import scaffold

__all__ = [
    "fedavg",
    "fedprox",
    "fedsep_implicit",
    "fedsep_lasso",
    "fedsep_linear",
    "fedsep_personal",
    "fedsep_quantised",
    "scaffold",
]
