"""Models with weights from a seed; any ``torch.nn.Module`` does as well.

A factory takes the shape of one input, the number of outputs, and keyword arguments, and returns a module.
"""

from fedsep.models.cnn import cnn
from fedsep.models.exported import load
from fedsep.models.linear import linear
from fedsep.models.logistic import logistic
from fedsep.models.mlp import mlp
from fedsep.models.resnet import resnet
from fedsep.models.scaler import Scaler
from fedsep.models.small_cnn import small_cnn
from fedsep.models.smaller import smaller
from fedsep.models.static_norm import StaticNorm
from fedsep.models.transformer import transformer
from fedsep.models.units import Axis, Units, units

__all__ = [
    "Axis",
    "Scaler",
    "StaticNorm",
    "Units",
    "cnn",
    "linear",
    "load",
    "logistic",
    "mlp",
    "resnet",
    "small_cnn",
    "smaller",
    "transformer",
    "units",
]
