"""The lines of Figures 2 and 3: methods of the recipe, and how their arguments follow p.

A recipe, ``recipes/paper/fig2.yaml``, holds the methods as they are at p = 500; what changes with p is written here
and nowhere else, and so is what is tuned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

DENSE = 1000
"""The largest p for which LASSO and the fixed sketch use a stored Gaussian matrix, as the paper does."""


def _everywhere(p: int) -> bool:
    return True


def _nothing(p: int) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Tries:
    """Settings among which validation accuracy decides: values of one argument."""

    argument: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Line:
    """A line of a figure.

    Attributes:
        name: The method's name in the recipe, and of its runs' folders.
        label: In the key of the figure.
        style: Its place in the palette: 8 more is the same colour with dashes.
        at: Its arguments at p.
        where: The p at which it is run.
        tries: What is tuned; the name of another line: what is chosen for that one.
        follows_p: Whether p means anything to it; if not, it is run once.
        note: What else was settled for it, and how: told in the caption.
        dense: Whether its download is often counted as the whole model: the rate that it has then is told too.
    """

    name: str
    label: str
    style: int
    at: Callable[[int], Mapping[str, Any]] = _nothing
    where: Callable[[int], bool] = _everywhere
    tries: Tries | str = Tries("lr", (0.05, 0.1, 0.2))
    follows_p: bool = True
    note: str = ""
    dense: bool = False


def _small(p: int) -> bool:
    return p <= DENSE


def _structured(p: int) -> bool:
    return p > DENSE or p == 500  # at 500 beside the Gaussian, to see what the change of operator does


def _fixed(p: int) -> dict[str, Any]:
    return {"p": p, "operator": f"fedsep.operators.{'gaussian' if _small(p) else 'dct'}"}


def _opened(p: int) -> dict[str, Any]:
    """FetchSGD's k and rows: its defaults, five rows and k = c / 10, learn nothing where p is 2 % of d.

    An estimate errs by about |u| / sqrt(c), more than the largest coordinates are long, so the few that are taken out
    are noise. Many of them, from one row, point the right way together.
    """
    return {"p": p, "rows": 1, "k": min(5 * p, 20_000)}


_SETTLED = (
    "rows = 1 and k = min(5 p, 20,000) were settled before, by hand, among nine settings over three p on MNIST, "
    "i.i.d., validation data, 50 rounds of seed 100 (recipes/mnist_cnn/tune_fetchsgd.yaml)"
)

LINES = (
    Line("fedavg", "FedAvg", 6, follows_p=False),
    Line("topk_ef", "Top-K + EF, k = p/2", 0, lambda p: {"k": max(1, p // 2)}, dense=True),
    Line(
        "topk_ef_values", "Top-K + EF, k = p (p counts values only)", 8, lambda p: {"k": p}, tries="topk_ef", dense=True
    ),
    Line("fetchsgd", "count sketch (FetchSGD)", 4, _opened, tries=Tries("server_lr", (0.3, 1.0, 3.0)), note=_SETTLED),
    Line("fedsep_lasso", "FedSep LASSO", 3, lambda p: {"p": p}, _small, Tries("beta", (0.001, 0.003, 0.01))),
    Line("fedsep_lasso_srht", "FedSep LASSO, SRHT", 11, lambda p: {"p": p}, _structured, "fedsep_lasso"),
    Line("fedsep_linear_fixed", "FedSep linear, fixed S", 5, _fixed),
    Line("fedsep_linear", "FedSep linear, S re-drawn (ours)", 1, lambda p: {"p": p}),
    Line("fedsep_quantised", "FedSep quantised (ours)", 2, lambda p: {"p": p}),
)
"""All lines of both figures, in the order of their key."""
