"""Section 3.1 of the paper as experiments: what it predicts beside what the library's code does.

Read ``quadratic.py`` first, the bed in which every constant has a closed form; then ``bound.py``, Theorem 3.7.
"""

from __future__ import annotations

from fedsep.theory.apart import theorem_terms
from fedsep.theory.condition import condition_number, hypergradient
from fedsep.theory.corollary import corollary_rate
from fedsep.theory.finding import Check, Finding, Line, Picture, Scale
from fedsep.theory.floor import corollary_floor
from fedsep.theory.lemmas import decode_contraction, drift
from fedsep.theory.neumann import encode_bias, encode_variance, neumann_factor
from fedsep.theory.stationarity import client_gradients
from fedsep.theory.theorem import theorem_bound

EXPERIMENTS = (
    neumann_factor,
    encode_bias,
    encode_variance,
    decode_contraction,
    drift,
    hypergradient,
    theorem_bound,
    theorem_terms,
    corollary_rate,
    corollary_floor,
    client_gradients,
    condition_number,
)
"""All experiments, in the paper's order; each is called with a ``Scale`` and a seed, and gives a ``Finding``."""

__all__ = [
    "EXPERIMENTS", "Check", "Finding", "Line", "Picture", "Scale", "client_gradients",
    "condition_number", "corollary_floor", "corollary_rate", "decode_contraction", "drift", "encode_bias",
    "encode_variance", "hypergradient", "neumann_factor", "theorem_bound", "theorem_terms",
]  # fmt: skip
