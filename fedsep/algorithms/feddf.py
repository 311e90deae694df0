"""FedDF: models of several architectures, each a mean of its clients, into which the ensemble of all is distilled."""

from __future__ import annotations

from typing import Any, Unpack

from fedsep import random
from fedsep.codecs.population import Population
from fedsep.core import Samples, Task, Wire
from fedsep.fedsep import FedSep, Weighting
from fedsep.learners.by_capability import ByCapability
from fedsep.learners.descent import Descent
from fedsep.learners.sgd import LocalSGD, sgd
from fedsep.ranges import Count, NonNegativeInt, Positive, checked
from fedsep.servers.ensemble import EnsembleDistil
from fedsep.views.prototypes import Prototypes
from fedsep.wires.dense import Dense
from fedsep.zoo import Modules, forgetful, shared, zoo_of


@checked(takes=sgd)
def feddf(
    task: Task,
    *,
    public: Samples | None,
    zoo: Modules | None = None,
    server_steps: NonNegativeInt = 1000,
    server_lr: Positive = 1e-3,
    server_batch_size: Count = 128,
    server_clip: Positive | None = 5.0,
    seed: int = 0,
    weighting: Weighting = "uniform",
    uplink: Wire[Any] | None = None,
    downlink: Wire[Any] | None = None,
    **local: Unpack[LocalSGD],
) -> FedSep:
    r"""A mean for each architecture, into which the server distils the clients' ensemble on public data.

    Client: local SGD from its architecture's x_g. Server: x_g <- mean of its clients' models; teacher z ->
    softmax(mean_k f_k(z)) over all clients of all architectures;  ``server_steps`` of Adam on
    KL(teacher || softmax f(x_g)), the rate falling along half a cosine to 0. An architecture of which no client replied
    starts from what it was. The server's model is that of capability 1.

    Without server steps and with one architecture this is FedAvg.

    Args:
        task: The local problem f; its model is that of clients of capability 1.
        public: Examples without labels, on the server; ``public: N`` in a recipe's data block.
        zoo: Models for weaker clients, by the least capability that each needs: ``{0.5: module, 0.25: module}``.
            A client has the largest that it can hold.
        server_steps: N, for each architecture.
        server_lr: Of Adam.
        server_batch_size: Public examples in a step.
        server_clip: Largest norm of a gradient; None: any.
        seed: Of the order of public examples.
        weighting: Of the means: ``uniform`` or ``samples``. The ensemble weighs all clients alike.
        uplink: How a change is sent, from ``fedsep.wires``; float32 by default.
        downlink: How a model is sent; float32 by default.
        **local: The local steps: what ``learners.sgd`` takes.

    Bytes:
        up: 4 * d_own
        down: 4 * d_own

    d_own is the number of parameters of the client's architecture. Public data stay where they are.

    Memory:
        Server: a model of each architecture, and the logits of the public examples of a round, whatever the cohort.
        Client: nothing between rounds.

    Reference:
        Lin et al. 2020, arXiv:2006.07242. Of the public code are repaired (numbers as in docs/sub-models.md): no
        labelled data choose a step, so the last is taken (C1.2); teacher and student see the same tensors, normalised
        like the private data (C1.3); logits are averaged, not probabilities or losses (C1.4); an architecture without
        replies keeps its weights (C1.6).
    """
    public = shared("feddf", public)
    models = zoo_of("feddf", task, zoo, public, own=True)
    descent = Descent(server_steps, server_batch_size, server_lr, "adam", server_clip, cosine=True)
    return FedSep(
        ByCapability(sgd(task, **local), models),
        codec=Population(models, served="1"),
        view=Prototypes(models),
        uplink=forgetful("feddf", uplink, models),
        downlink=downlink or Dense(),
        server=EnsembleDistil(models, public, descent, random.fold(random.key(seed), 8501)),
        weighting=weighting,
    )
