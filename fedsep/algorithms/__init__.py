"""One factory a method; each is a choice of view, codec, learner, wires and server."""

from fedsep.algorithms.dgc import dgc
from fedsep.algorithms.dsfl import dsfl
from fedsep.algorithms.eden import eden
from fedsep.algorithms.exclude import exclude
from fedsep.algorithms.fedavg import fedavg
from fedsep.algorithms.feddf import feddf
from fedsep.algorithms.feddst import feddst
from fedsep.algorithms.federated_dropout import federated_dropout
from fedsep.algorithms.fedet import fedet
from fedsep.algorithms.fedprox import fedprox
from fedsep.algorithms.fedrolex import fedrolex
from fedsep.algorithms.fedsep_implicit import fedsep_implicit
from fedsep.algorithms.fedsep_importance import fedsep_importance
from fedsep.algorithms.fedsep_lasso import fedsep_lasso
from fedsep.algorithms.fedsep_linear import fedsep_linear
from fedsep.algorithms.fedsep_mask import fedsep_mask
from fedsep.algorithms.fedsep_personal import fedsep_personal
from fedsep.algorithms.fedsep_quantised import fedsep_quantised
from fedsep.algorithms.fedsep_shared import fedsep_shared
from fedsep.algorithms.fetchsgd import fetchsgd
from fedsep.algorithms.fjord import fjord
from fedsep.algorithms.flash import flash
from fedsep.algorithms.heterofl import heterofl
from fedsep.algorithms.homogeneous import homogeneous
from fedsep.algorithms.kept_random import kept_random
from fedsep.algorithms.powersgd import powersgd
from fedsep.algorithms.qsgd import qsgd
from fedsep.algorithms.scaffold import scaffold
from fedsep.algorithms.shared_random import shared_random
from fedsep.algorithms.signsgd_ef import signsgd_ef
from fedsep.algorithms.splitmix import splitmix
from fedsep.algorithms.stc import stc
from fedsep.algorithms.terngrad import terngrad
from fedsep.algorithms.topk_ef import topk_ef
from fedsep.algorithms.zerofl import zerofl

__all__ = [
    "dgc",
    "dsfl",
    "eden",
    "exclude",
    "fedavg",
    "feddf",
    "feddst",
    "federated_dropout",
    "fedet",
    "fedprox",
    "fedrolex",
    "fedsep_implicit",
    "fedsep_importance",
    "fedsep_lasso",
    "fedsep_linear",
    "fedsep_mask",
    "fedsep_personal",
    "fedsep_quantised",
    "fedsep_shared",
    "fetchsgd",
    "fjord",
    "flash",
    "heterofl",
    "homogeneous",
    "kept_random",
    "powersgd",
    "qsgd",
    "scaffold",
    "shared_random",
    "signsgd_ef",
    "splitmix",
    "stc",
    "terngrad",
    "topk_ef",
    "zerofl",
]
