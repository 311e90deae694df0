"""How a client learns."""

from fedsep.learners.schedules import cosine, exponential, milestones
from fedsep.learners.sgd import sgd

__all__ = ["cosine", "exponential", "milestones", "sgd"]
