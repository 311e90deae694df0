"""Models with weights from a seed; any ``torch.nn.Module`` does as well.

A factory takes the shape of one input, the number of outputs, and keyword arguments, and returns a module.
"""

from fedsep.models.cnn import cnn
from fedsep.models.linear import linear
from fedsep.models.logistic import logistic
from fedsep.models.mlp import mlp

__all__ = ["cnn", "linear", "logistic", "mlp"]
