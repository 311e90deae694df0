"""Models most of whose weights are zero: which, how many in each layer, and how the kept ones travel."""

from fedsep.sparsity.density import Distribution, Scale, erk, filled, quotas, share_of
from fedsep.sparsity.growth import Readjustment, grown_by_chance, grown_by_gradient, pruned
from fedsep.sparsity.layers import Layers, prunable
from fedsep.sparsity.masks import Masks, largest, largest_of, part_of, random_masks
from fedsep.sparsity.places import Bitmask, PlaceCode, Places, place_code

__all__ = [
    "Bitmask", "Distribution", "Layers", "Masks", "PlaceCode", "Places", "Readjustment", "Scale", "erk", "filled",
    "grown_by_chance", "grown_by_gradient", "largest", "largest_of", "part_of", "place_code", "prunable", "pruned",
    "quotas", "random_masks", "share_of",
]  # fmt: skip
