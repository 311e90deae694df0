"""DS-FL: clients of any architecture exchange what they think of public examples, and nothing else."""

from __future__ import annotations

from typing import Any, Unpack

from fedsep import random
from fedsep.codecs.soft_labels import Pool, SoftLabels
from fedsep.core import FedSepError, Samples, Task, Wire
from fedsep.fedsep import FedSep, Weighting
from fedsep.learners.by_capability import ByCapability
from fedsep.learners.descent import Descent
from fedsep.learners.sgd import LocalSGD, sgd
from fedsep.ranges import Count, NonNegativeInt, Positive, checked
from fedsep.servers.agreed_labels import Aggregation, AgreedLabels
from fedsep.views.labels import LastLabels
from fedsep.wires.dense import Dense
from fedsep.zoo import Modules, shared, width_of, zoo_of


@checked(takes=sgd)
def dsfl(
    task: Task,
    *,
    public: Samples | None,
    zoo: Modules | None = None,
    aggregation: Aggregation = "era",
    temperature: Positive | None = None,
    per_round: Count = 1000,
    distil_steps: NonNegativeInt = 100,
    distil_lr: Positive = 0.1,
    distil_batch_size: Count = 50,
    server_steps: NonNegativeInt | None = None,
    seed: int = 0,
    weighting: Weighting = "uniform",
    uplink: Wire[Any] | None = None,
    downlink: Wire[Any] | None = None,
    **local: Unpack[LocalSGD],
) -> FedSep:
    r"""Clients send probabilities on some public examples, the server sends back one set of them; everybody learns it.

    Client: y_0 = steps on KL(F || softmax y) from its own model, F what was agreed last;  local SGD;  sends softmax
    y_I(z) of this round's public examples z. Server: F <- mean of these (SA), or softmax(mean / T) (ERA), and steps of
    its own model on it. T is a temperature of probabilities: near the uniform distribution ERA sharpens only below
    1 / classes, the default.

    A client that was away is sent the last round's labels alone, and is otherwise where it stopped.

    Args:
        task: The local problem f; its model is the server's, and that of clients of capability 1.
        public: Examples without labels, which all have; ``public: N`` in a recipe's data block.
        zoo: Models for weaker clients, by the least capability that each needs: ``{0.5: module, 0.25: module}``.
            A client has the largest that it can hold, and keeps one of each that it has had.
        aggregation: ``era`` (entropy reduction) or ``sa`` (simple).
        temperature: T of ERA; None: 1 / classes.
        per_round: Public examples that are labelled in a round, at most all.
        distil_steps: Steps of a client on the labels; E_d epochs are E_d per_round / distil_batch_size.
        distil_lr: Of these steps, plain SGD.
        distil_batch_size: Public examples in a step.
        server_steps: Steps of the server's model; None: ``distil_steps``.
        seed: Of the public examples of each round.
        weighting: ``uniform`` or ``samples``.
        uplink: How labels are sent, from ``fedsep.wires``; float32 by default.
        downlink: The same down.
        **local: The local steps: what ``learners.sgd`` takes.

    Bytes:
        up: 4 * n * classes
        down: 4 * n * classes + 4

    n is per_round: nothing depends on the models. Which examples these are follows from the seed and the round, and
    costs nothing; beside the labels stands their round. In the first round nothing is sent down.

    Metrics:
        server_entropy_of_mean, server_entropy_agreed: -sum p log p of the round's labels in nats, before and after ERA.

    Memory:
        Server: its model and n labels. Client: its own model.

    Reference:
        Itahara et al. 2020, arXiv:2008.06180. Of public code are repaired (numbers as in docs/sub-models.md): targets
        are probabilities and do not go through softmax again (C2.1); public examples are not augmented, and drawn
        without replacement, so that labels belong to what was seen (C2.2); clients that were away go on as said above,
        where the paper has none (C2.3).
    """
    public = shared("dsfl", public)
    models = zoo_of("dsfl", task, zoo, public, own=True)
    if per_round > public.size:
        raise FedSepError(f"dsfl: per_round must be at most the {public.size:,} public examples (got {per_round:,})")
    classes, key = width_of(task, public), random.fold(random.key(seed), 8601)
    pool = Pool(public, per_round, key)
    descent = Descent(distil_steps, distil_batch_size, distil_lr)
    own = descent if server_steps is None else Descent(server_steps, distil_batch_size, distil_lr)
    sharp = (temperature or 1 / classes) if aggregation == "era" else None
    return FedSep(
        ByCapability(sgd(task, **local), models),
        codec=SoftLabels(models, pool, descent, classes),
        view=LastLabels(models),
        uplink=uplink or Dense(),
        downlink=downlink or Dense(),
        server=AgreedLabels(task, pool, own, sharp, random.fold(key, 2)),
        weighting=weighting,
    )
