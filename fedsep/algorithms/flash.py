"""Flash: clients first agree how dense each layer is, then train in common masks."""

from __future__ import annotations

from typing import Any, Literal, Unpack

from fedsep import random
from fedsep.class_rows import beside, found
from fedsep.codecs.agreeing import Agree
from fedsep.codecs.masked import ByChance, Masked
from fedsep.core import FedSepError, Task, Wire
from fedsep.fedsep import FedSep, Weighting
from fedsep.learners.own_classes import OwnClasses
from fedsep.learners.sgd import LocalSGD, sgd
from fedsep.models.units import Units
from fedsep.ranges import Count, Fraction, Part, checked
from fedsep.servers.agree import Agreed, AgreeThen, TopWeights
from fedsep.servers.sparse_mean import SparseMean
from fedsep.sparsity.density import Scale, layer_densities, quotas
from fedsep.sparsity.growth import Readjustment
from fedsep.sparsity.layers import Layers, prunable
from fedsep.sparsity.masking import Masking, Spread
from fedsep.sparsity.masks import random_masks
from fedsep.sparsity.places import PlaceCode, place_code
from fedsep.sparsity.weighed import Reduction, by_unit, weighing
from fedsep.views.agreeing import UntilAgreed
from fedsep.views.kept import KeptWeights
from fedsep.wires.dense import Dense


@checked(takes=sgd)
def flash(
    task: Task,
    *,
    density: Fraction = 0.05,
    variant: Literal["spdst", "jmwst"] = "jmwst",
    first: Literal["sensitivity", "uniform", "erk"] = "sensitivity",
    first_epochs: Count = 10,
    rate: Part = 0.25,
    until: Count | None = None,
    every: Count = 1,
    scale: Scale = "constant",
    layers: Layers = "weights",
    places: PlaceCode = "bitmask",
    own_classes: bool = True,
    outputs: tuple[str, ...] | None = None,
    reduce: Reduction = "coverage_mean",
    units: Units | None = None,
    seed: int = 0,
    weighting: Weighting = "uniform",
    uplink: Wire[Any] | None = None,
    downlink: Wire[Any] | None = None,
    **local: Unpack[LocalSGD],
) -> FedSep:
    r"""A round in which clients find how dense each layer should be; then sparse training in masks of that density.

    First stage, one round: each client of the cohort starts from the same random masks, trains for some epochs, and
    after each moves a part of its weights, the smallest, to random places, more of them into layers of larger mean
    magnitude; it tells the server how many weights each layer ended with. d_l <- mean of the layers' densities over
    clients, min(1, c d_l) so that the whole has ``density``; m is drawn at random at d_l, the model starts anew.
    Second stage: y_0 = x m, every step is followed by m, x_j <- mean of y_j over the clients that hold j.
    ``spdst``: m stays.  ``jmwst``: a client first moves a part of its weights to random places, then trains; m <- the
    largest |x_j| of each layer, and every ``every`` rounds d_l <- mean of the clients' densities again.

    With density 1, and with all classes everywhere, this is FedAvg from the second round on.

    Heterogeneous clients (``scale``): a client of capability p has p^2 or p of the density, spread over layers as was
    agreed, min(1, c d_l), and is given the largest of each layer's kept weights, so that masks of all levels are
    nested, and each weight is averaged over those that hold it. In the first stage it starts from a part of the masks,
    and what counts is how much denser or sparser each of its layers became.

    Args:
        task: The local problem f.
        density: d, the part of the weights that is kept, over all sparse layers together.
        variant: ``spdst`` or ``jmwst``.
        first: How the layers' densities are found: ``sensitivity``: by a first stage; ``uniform`` (PDST) or ``erk``:
            without one.
        first_epochs: Epochs of the first stage.
        rate: Part of the weights that a client moves, in the first stage falling linearly to 0 over its epochs.
        until: Round at which the part that ``jmwst`` moves has fallen to 0, linearly; None: it stays.
        every: Rounds between two looks of ``jmwst`` at the clients' densities; there are none under ``scale``.
        scale: A client's part of the server's weights: ``constant``: all; ``params``: p^2; ``width``: p.
        layers: ``weights`` or ``convolutions`` (as in the public code); biases are never sparse.
        places: How positions are sent: ``bitmask``, ``int32``, ``packed`` or ``golomb``.
        own_classes: Whether a client leaves the scores of classes that it has not out of its loss, and the server moves
            a class's row by those clients only that have the class.
        outputs: Parameters whose rows are the scores of the classes; found in the task's module by default.
        reduce: ``coverage_mean``; ``importance`` averages by one number a unit from each client, ``shuffled`` is its
            control: see ``fedsep.sparsity.weighed.Reduction``.
        units: With these, which dimensions of the parameters count the same units; derived from the task's model by
            default.
        seed: Of the random masks.
        weighting: ``uniform`` or ``samples``.
        uplink: How a change is sent, from ``fedsep.wires``; float32 by default.
        downlink: How the model is sent; float32 by default.
        **local: The local steps: what ``learners.sgd`` takes.

    Bytes:
        up: 4 * sent_up + places_up + ceil(classes / 8) + 4 * numbers
        down: 4 * sent_down + places_down

    In the first stage nothing is sent down, and up a count for each sparse layer. Then sent_up and sent_down count the
    weights inside the client's masks and all parameters that are never sparse; places_down are their positions,
    sum_l ceil(n_l / 8) as bits over the layers that are not kept whole, where the masks are new to the client, so
    always in ``jmwst`` and under ``scale``; places_up the same in ``jmwst``, else 0. Classes are told in the second
    stage, with ``own_classes`` only; numbers is then that of the model's units with ``reduce`` importance, else 0.

    Memory:
        Server: the model and its masks, 4 (d + n), and its start, 4 d. Client: its positions.

    Reference:
        Babakniya et al. 2023, "Revisiting Sparsity Hunting in Federated Learning", arXiv:2304.11112 (TMLR). Of the
        public code are repaired or changed (numbers as in docs/sub-models.md): it averages with masks everywhere
        (FMA), and never by the number of clients, which is its default and shrinks what few hold (B8.1); a weight that
        nobody holds keeps its value instead of falling to 0 (B8.2); levels follow from the clients' capability, not
        from their place in the cohort (B8.3); the learning rate reaches its end in the run's own number of rounds
        (``learners.exponential``), not in 1000 (B8.4); only counts leave the
        first stage, as nothing else of the masks is used; ordinary local steps follow its last epoch. Classes of one's
        own are not the paper's: in the rows of others a client moves no weight. Which weights of a layer are largest
        the server finds among all rows.
    """
    start = task.init()
    names = prunable("flash", start, layers)
    key = random.fold(random.key(seed), 8300)
    kept = quotas(layer_densities(start, names, density, "erk" if first == "erk" else "uniform"),
                  [start[name].numel() for name in names])  # fmt: skip
    agreed, moving = first != "sensitivity", variant == "jmwst" and rate > 0
    moves = Readjustment(rate, int(moving), until, "linear", start=0 if agreed else 1)
    rows = found(task, outputs) if own_classes else None
    by = by_unit(task, reduce, units, scale)
    profile = Agreed(names, density) if first == "sensitivity" else Spread(names, density, first)
    masking = Masking(names, scale, profile, place_code(places), moves, rows, by)
    plain = sgd(task, **local)
    learner = weighing(by, plain)
    early = ByChance(moves, rows) if moving else None
    codec = Masked(start, random_masks(start, names, kept, key), masking, early)
    if scale != "constant" and every != 1:
        raise FedSepError(f"every must stay 1 under scale={scale}: densities stay as agreed there (got {every})")
    looks = every if scale == "constant" else 0  # of clients of all sizes, those who hold most would level the layers
    renew = TopWeights(names, density, looks, key) if variant == "jmwst" else None
    return FedSep(
        learner if rows is None else OwnClasses(learner, rows.classes),
        codec=Agree(codec, plain, first_epochs, rate, agreed, key),
        view=UntilAgreed(KeptWeights(masking, varies=moving)),
        uplink=beside(uplink, rows is not None or by is not None),
        downlink=downlink or Dense(),
        server=AgreeThen(start, names, density, key, SparseMean(renew)),
        weighting=weighting,
    )
