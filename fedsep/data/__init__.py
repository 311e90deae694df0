"""Federated data: sources, rules by which samples are dealt to clients, and the federation they make."""

from fedsep.data.arrays import arrays, npz
from fedsep.data.classes import Classes, classes
from fedsep.data.csv import csv
from fedsep.data.dataset import dataset
from fedsep.data.dirichlet import Dirichlet, dirichlet
from fedsep.data.federation import Federation
from fedsep.data.folder import folder
from fedsep.data.known import cifar10, cifar100, digits, mnist
from fedsep.data.parquet import parquet
from fedsep.data.partition import Partition
from fedsep.data.parts import Parts
from fedsep.data.rules import Blocks, Iid, Natural, Pool, Rule, Sizes, blocks, iid, natural, sizes
from fedsep.data.sites import Sites, sites
from fedsep.data.text import text

__all__ = [
    "Blocks", "Classes", "Dirichlet", "Federation", "Iid", "Natural", "Partition", "Parts", "Pool", "Rule", "Sites",
    "Sizes", "arrays", "blocks", "cifar10", "cifar100", "classes", "csv", "dataset", "digits", "dirichlet", "folder",
    "iid", "mnist", "natural", "npz", "parquet", "sites", "sizes", "text",
]  # fmt: skip
