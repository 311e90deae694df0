"""How a client learns."""

from fedsep.learners.augment import crop_and_flip
from fedsep.learners.schedules import cosine, exponential, milestones
from fedsep.learners.sgd import sgd

__all__ = ["cosine", "crop_and_flip", "exponential", "milestones", "sgd"]
