"""Gates on a model's units, fitted to data: which units a client's sub-model shall have (Eq. 6-8 of the paper)."""

from fedsep.gates.cost import Cost, Term, multiply_adds, parameters, resource_loss
from fedsep.gates.fit import Adam
from fedsep.gates.gating import Gates, Gating, hard, spread
from fedsep.gates.hypernetwork import Free, Hypernetwork
from fedsep.gates.making import Form, Preset, gate_scores, gating_of
from fedsep.gates.relaxation import Noise, Relaxation
from fedsep.gates.scoring import GateScores
from fedsep.gates.second_term import Relaxed, SecondTerm, bounded, second_term

__all__ = [
    "Adam", "Cost", "Form", "Free", "GateScores", "Gates", "Gating", "Hypernetwork", "Noise", "Preset",
    "Relaxation", "Relaxed", "SecondTerm", "Term", "bounded", "gate_scores", "gating_of", "hard",
    "multiply_adds", "parameters", "resource_loss", "second_term", "spread",
]  # fmt: skip
