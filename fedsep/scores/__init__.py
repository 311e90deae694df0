"""Which units matter to a client: one number a unit."""

from fedsep.scores.activation import activation
from fedsep.scores.by_name import Scores, Scoring, scorer_of
from fedsep.scores.scorer import Scorer
from fedsep.scores.taylor import taylor

__all__ = ["Scorer", "Scores", "Scoring", "activation", "scorer_of", "taylor"]
