"""The LASSO problem min_y 1/2 |S y - x|^2 + beta |y|_1: its solution, and the derivative of that on its support."""

from fedsep.lasso.products import Columns, Masked, Matrix, Products, restricted, squared_norm
from fedsep.lasso.recurrence import Prepared, prepared
from fedsep.lasso.solvers import Solution, fista, ista, relative_gap, soft
from fedsep.lasso.support import Factor, apply, factorise, iterate

__all__ = [
    "Columns",
    "Factor",
    "Masked",
    "Matrix",
    "Prepared",
    "Products",
    "Solution",
    "apply",
    "factorise",
    "fista",
    "ista",
    "iterate",
    "prepared",
    "relative_gap",
    "restricted",
    "soft",
    "squared_norm",
]
