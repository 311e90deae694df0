"""ZeroFL: local steps that compute with few weights, and replies that hold few."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Unpack

from fedsep.class_rows import beside, found
from fedsep.codecs.largest import Largest
from fedsep.core import FedSepError, Task, Wire
from fedsep.fedsep import FedSep, Weighting
from fedsep.learners.own_classes import OwnClasses
from fedsep.learners.sgd import LocalSGD, sgd
from fedsep.learners.swat import SparseSGD
from fedsep.models.units import Units
from fedsep.ranges import Fraction, Part, argument_errors, checked
from fedsep.servers.optimize import Optimize, Rule
from fedsep.servers.reduce import coverage_mean, mean
from fedsep.servers.sgd import SGDRule
from fedsep.sparsity.density import Scale
from fedsep.sparsity.layers import Layers, prunable
from fedsep.sparsity.places import PlaceCode, place_code
from fedsep.sparsity.weighed import Reduction, by_unit, weighing
from fedsep.views.largest import LargestUp, Upload, Variant
from fedsep.wires.dense import Dense


@checked(takes=sgd)
def zerofl(
    task: Task,
    *,
    density: Fraction = 0.1,
    extra: Part = 0.1,
    variant: Variant = "diff_on_top_k",
    average: Literal["all", "sent"] = "all",
    served: Fraction | Sequence[Fraction] | None = None,
    scale: Scale = "constant",
    layers: Layers = "weights",
    places: PlaceCode = "bitmask",
    own_classes: bool = True,
    outputs: tuple[str, ...] | None = None,
    reduce: Reduction = "coverage_mean",
    units: Units | None = None,
    server: Rule | None = None,
    weighting: Weighting = "samples",
    uplink: Wire[Any] | None = None,
    downlink: Wire[Any] | None = None,
    **local: Unpack[LocalSGD],
) -> FedSep:
    r"""Local SWAT steps, of whose result each client sends the largest coordinates.

    SWAT, at density 1 - sp: the loss and its gradient to a layer's inputs are those of the layer's largest weights;
    its gradient to the weights is that of the layer's largest inputs over the minibatch, and reaches all weights. Which
    are largest is found anew in every step. Of the result y the client sends, in each sparse layer, density + r_mask of
    the coordinates: ``top_k_weights``: the largest of y, the others read as 0;  ``diff_on_top_k``: y - x where y is
    largest;  ``top_k_diff``: the largest of y - x. x <- x + sum_m w_m dx_m / sum_m w_m.

    With density 1, and with all classes everywhere, this is FedAvg.

    Heterogeneous clients (``scale``; not defined by the paper): a client of capability p has density p^2 or p times
    that of a client of capability 1. Use a variant that sends changes: ``top_k_weights`` averages in the zeros of
    weak clients.

    Args:
        task: The local problem f.
        density: 1 - sp, the part of each sparse layer that a client of capability 1 computes with.
        extra: r_mask, the part of each sparse layer that is sent beside that.
        variant: What is sent, see above.
        average: ``all`` divides by all replies, as the paper does; ``sent`` by those that sent the coordinate. With
            ``own_classes`` a class's row by the clients among these that have the class.
        served: Part of each sparse layer that the server's model keeps when it is evaluated; None: ``density``, at
            which clients of capability 1 train. The paper's model falls from 82 to 10 % if all its weights are used;
            where full-size clients train dense, 1 may be better. Of several, such as [1.0, 0.25, 0.1], the largest is
            the server's model, and with ``evaluate.served`` the one that does best on validation data is served.
        scale: A client's density: ``constant``: the same for all; ``params``: p^2; ``width``: p times ``density``.
        layers: ``weights``: every tensor of two dimensions or more; ``convolutions``: kernels of more than one pixel
            alone, as in the paper.
        places: How positions are sent: ``bitmask``, ``int32``, ``packed`` or ``golomb``.
        own_classes: Whether a client leaves the scores of classes that it has not out of its loss, and the server moves
            a class's row by those clients only that have the class.
        outputs: Parameters whose rows are the scores of the classes; found in the task's module by default.
        reduce: ``coverage_mean``; ``importance`` averages by one number a unit from each client, ``shuffled`` is its
            control: see ``fedsep.sparsity.weighed.Reduction``.
        units: With these, which dimensions of the parameters count the same units; derived from the task's model by
            default.
        server: Server optimiser, from ``fedsep.servers``; plain averaging by default.
        weighting: ``samples`` or ``uniform``.
        uplink: How a change is sent, from ``fedsep.wires``; float32 by default.
        downlink: How the model is sent; float32 by default.
        **local: The local steps: what ``learners.sgd`` takes.

    Bytes:
        up: 4 * sent + places + ceil(classes / 8) + 4 * numbers
        down: 4 * d

    sent counts (density + extra) n_l, to the nearest whole number, of each sparse layer's n_l weights and all of the
    other parameters; places are sum_l ceil(n_l / 8) as bits over the layers that are not sent whole (the paper's CSR
    is ``int32``, 4 * k); classes are told with ``own_classes`` only; numbers is
    that of the model's units with ``reduce`` importance, else 0.

    Memory:
        Server: the model. Client: nothing between rounds.

    Raises:
        FedSepError: ``served`` is empty or out of range, or there is no sparse layer.

    Reference:
        Qiu et al. 2022, arXiv:2208.02507; SWAT: Raihan and Aamodt 2020, arXiv:2001.01969. There is no public code. The
        learning rate of the paper's experiments falls exponentially: ``learners.exponential``; its printed formula has
        the quotient upside down, and would let it grow (B6.1 in docs/sub-models.md). Classes of one's own are not the
        paper's: of a layer whose rows are classes a client sends the largest coordinates of its own classes, and others
        only if these are too few. Layers whose weights are used otherwise than by ``torch.nn.functional.linear`` or
        ``conv`` compute with sparse weights and dense inputs.
    """
    start = task.init()
    names = prunable("zerofl", start, layers)
    rows = found(task, outputs) if own_classes else None
    by = by_unit(task, reduce, units, scale)
    upload = Upload(names, variant, density, extra, scale, place_code(places), rows, by)
    alike = average == "all" and rows is None and by is None
    sent, steps = average == "sent", weighing(by, SparseSGD(sgd(task, **local), names, density, scale))
    return FedSep(
        steps if rows is None else OwnClasses(steps, rows.classes),
        codec=Largest(upload, _densities(density if served is None else served)),
        view=LargestUp(upload, sent),
        uplink=beside(uplink, rows is not None or by is not None),
        downlink=downlink or Dense(),
        server=Optimize(server or SGDRule(), mean if alike else coverage_mean),
        weighting=weighting,
    )


def _densities(served: float | Sequence[float]) -> tuple[float, ...]:
    """The largest first.

    Raises:
        FedSepError: There is none, or one is out of range.
    """
    several = isinstance(served, Sequence) and not isinstance(served, str)
    each: list[Any] = list(served) if several else [served]  # type: ignore[arg-type]
    wrong = [text for value in each for text in argument_errors("served", value, Fraction)]
    if wrong or not each:
        raise FedSepError(f"zerofl: {wrong[0] if wrong else 'served must name a share or more (got none)'}")
    return tuple(sorted(set(each), reverse=True))
