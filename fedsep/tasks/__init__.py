"""Tasks: what is minimised and what is measured, for any ``torch.nn.Module``."""

from fedsep.tasks.binary import binary
from fedsep.tasks.check_fit import check_fit
from fedsep.tasks.check_module import check_module
from fedsep.tasks.classification import classification
from fedsep.tasks.language import language
from fedsep.tasks.regression import regression

__all__ = ["binary", "check_fit", "check_module", "classification", "language", "regression"]
