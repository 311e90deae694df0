"""FedDST: sparse models whose masks clients move while they train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Unpack

from fedsep.class_rows import beside, found
from fedsep.codecs.masked import ByGradient, Masked
from fedsep.core import Params, Task, Wire
from fedsep.fedsep import FedSep, Weighting
from fedsep.learners.own_classes import OwnClasses
from fedsep.learners.sgd import LocalSGD, sgd
from fedsep.models.units import Units
from fedsep.ranges import Count, Fraction, NonNegativeInt, Part, checked
from fedsep.servers.sparse_mean import SparseMean, Tally, ranked, voted
from fedsep.sparsity.density import Distribution, Scale, layer_densities, quotas
from fedsep.sparsity.growth import Readjustment
from fedsep.sparsity.layers import Layers, prunable
from fedsep.sparsity.masking import Masking, Sparse, Spread
from fedsep.sparsity.masks import Masks, largest_of
from fedsep.sparsity.places import PlaceCode, place_code
from fedsep.sparsity.weighed import Reduction, by_unit, weighing
from fedsep.views.kept import KeptWeights
from fedsep.wires.dense import Dense


@dataclass(frozen=True)
class Repruned:
    """After a round in which masks moved: the union of the clients' masks, pruned to the layers' counts.

    Attributes:
        counts: Weights that each layer keeps.
        moves: When masks move.
    """

    counts: Mapping[str, int]
    moves: Readjustment

    def __call__(self, x: Sparse, model: Params, tally: Tally) -> dict[str, Masks]:
        """What has just grown is 0 everywhere: there the votes decide, then what was held before."""
        if self.moves.part(int(x["round"])) == 0:
            return {}
        then = {name: votes + 0.5 * x["mask"][name] for name, votes in tally.votes.items()}
        return {"mask": ranked(model, voted(x, tally), self.counts, then)}


@checked(takes=sgd)
def feddst(
    task: Task,
    *,
    density: Fraction = 0.2,
    scale: Scale = "constant",
    distribution: Distribution = "erk",
    layers: Layers = "weights",
    readjust: Part = 0.01,
    every: NonNegativeInt = 15,
    until: Count | None = None,
    places: PlaceCode = "bitmask",
    own_classes: bool = True,
    outputs: tuple[str, ...] | None = None,
    reduce: Reduction = "coverage_mean",
    units: Units | None = None,
    weighting: Weighting = "samples",
    uplink: Wire[Any] | None = None,
    downlink: Wire[Any] | None = None,
    **local: Unpack[LocalSGD],
) -> FedSep:
    r"""Every client trains the weights inside the server's masks; at times it exchanges its smallest for others.

    y_0 = x m, and every step is followed by m;  in every ``every``-th round, after the local steps: the smallest
    alpha_t of the weights go, and as many zeros of largest gradient come, as 0;  x_j <- mean of y_j over the clients
    that hold j, weighted;  m <- union of the clients' masks, pruned to the layers' counts by magnitude.
    alpha_t = alpha / 2 (1 + cos(pi t / T_end)).

    With density 1, and with all classes everywhere, this is FedAvg, whatever alpha is.

    Heterogeneous clients (``scale``; not defined by the paper): a client of capability p has p^2 or p of the density,
    spread over layers by ``distribution`` like the server's, and is given the largest of each layer's kept weights.
    What it was not given it does not vote against.

    Args:
        task: The local problem f.
        density: 1 - S, the part of the weights that is kept, over all sparse layers together.
        scale: A client's part of that: ``constant``: all; ``params``: p^2, as many as in a model of p times the width;
            ``width``: p.
        distribution: ``erk``: larger layers are sparser, sparsity in proportion to 1 - (sum of the dimensions) /
            (product of the dimensions); ``uniform``.
        layers: ``weights`` or ``convolutions``; biases are never sparse.
        readjust: alpha, the part of a layer's kept weights that is exchanged.
        every: R_adj, rounds between readjustments, the first in the first round; 0: never.
        until: T_end, the round from which masks stay; None: alpha does not decay.
        places: How positions are sent: ``bitmask``, ``int32``, ``packed`` or ``golomb``.
        own_classes: Whether a client leaves the scores of classes that it has not out of its loss, and the server moves
            a class's row by those clients only that have the class.
        outputs: Parameters whose rows are the scores of the classes; found in the task's module by default.
        reduce: ``coverage_mean``; ``importance`` averages by one number a unit from each client, ``shuffled`` is its
            control: see ``fedsep.sparsity.weighed.Reduction``.
        units: With these, which dimensions of the parameters count the same units; derived from the task's model by
            default.
        weighting: ``samples`` or ``uniform``.
        uplink: How a change is sent, from ``fedsep.wires``; float32 by default.
        downlink: How the model is sent; float32 by default.
        **local: The local steps: what ``learners.sgd`` takes.

    Bytes:
        up: 4 * sent + places_up + ceil(classes / 8) + 4 * numbers
        down: 4 * sent + places_down

    sent counts the weights inside the client's masks and all parameters that are never sparse. places_up are the
    positions, sum_l ceil(n_l / 8) as bits over the layers that are not kept whole, in the rounds in which masks move,
    else 0; places_down the same when the server's masks are new to the client, or always under ``scale``, else 0;
    classes are told with ``own_classes`` only; numbers is that of the model's units with ``reduce`` importance, else 0.

    Memory:
        Server: the model and its masks, 4 (d + n). Client: its positions.

    Reference:
        Bibikar et al. 2022, arXiv:2112.09824. Of the public code are repaired (numbers as in docs/sub-models.md): alpha
        is not applied twice (B7.1); only zeros grow, so that no live weight is set to 0 (B7.2); clients are weighted by
        their examples (B7.3); positions are counted whole (B7.5); without sparsity nothing is pruned (B7.8). The
        gradient is that of a minibatch of its own, after the last local step. Classes of one's own are not the paper's:
        in the rows of others a client exchanges nothing.
    """
    start = task.init()
    names = prunable("feddst", start, layers)
    sizes = [start[name].numel() for name in names]
    kept = quotas(layer_densities(start, names, density, distribution), sizes)
    moves = Readjustment(readjust, every if readjust else 0, until)
    rows = found(task, outputs) if own_classes else None
    by = by_unit(task, reduce, units, scale)
    masking = Masking(names, scale, Spread(names, density, distribution), place_code(places), moves, rows, by)
    growth = ByGradient(task, moves, local.get("batch_size", 64), rows)
    learner = weighing(by, sgd(task, **local))
    return FedSep(
        learner if rows is None else OwnClasses(learner, rows.classes),
        codec=Masked(start, largest_of(start, names, kept), masking, late=growth),
        view=KeptWeights(masking),
        uplink=beside(uplink, rows is not None or by is not None),
        downlink=downlink or Dense(),
        server=SparseMean(Repruned(dict(zip(names, kept, strict=True)), moves)),
        weighting=weighting,
    )
