"""Fed-ET: a larger model on the server learns what many small ones agree on, and lends them its head."""

from __future__ import annotations

from typing import Any, Unpack

from fedsep import random
from fedsep.codecs.population import Population
from fedsep.core import Samples, Task, Wire
from fedsep.fedsep import FedSep, Weighting
from fedsep.learners.by_capability import ByCapability
from fedsep.learners.descent import Descent
from fedsep.learners.sgd import LocalSGD, sgd
from fedsep.ranges import Count, NonNegative, NonNegativeInt, Positive, checked
from fedsep.servers.consensus import SERVER, Consensus, heads_of
from fedsep.views.prototypes import Prototypes
from fedsep.wires.dense import Dense
from fedsep.zoo import Modules, forgetful, shared, zoo_of


@checked(takes=sgd)
def fedet(
    task: Task,
    *,
    public: Samples | None,
    zoo: Modules | None = None,
    head: str | None = None,
    diversity: NonNegative = 0.05,
    server_steps: NonNegativeInt = 128,
    server_lr: Positive = 5e-3,
    server_batch_size: Count = 64,
    seed: int = 0,
    weighting: Weighting = "uniform",
    uplink: Wire[Any] | None = None,
    downlink: Wire[Any] | None = None,
    **local: Unpack[LocalSGD],
) -> FedSep:
    r"""The server's model W, which no client has, learns the clients' weighted consensus on public data.

    Client: local SGD from its architecture's x_u. Server: the head of W <- mean of the clients' heads; of each public
    example, with logits s_k of client k and v_k their variance over classes: label = argmax sum_k v_k s_k;  s_div =
    sum_{k in D} v_k s_k / sum_D v_k over D, those whose argmax is another;  steps of SGD on CE(W, label) + lambda
    KL(softmax s_div || softmax W), without the second where D is empty or all its v_k are 0. Then x_u <- mean of its
    clients' models, with the head of W.

    Args:
        task: The local problem f; its model is W.
        public: Examples without labels, on the server; ``public: N`` in a recipe's data block.
        zoo: The clients' models, by the least capability that each needs: ``{1.0: module, 0.5: module}``. Clients of
            capability 1 have an architecture like W's unless there is another one for them.
        head: First letters of the names of the head's parameters, which all models must have in the same shapes; None:
            those of each model's last layer.
        diversity: lambda.
        server_steps: tau_s.
        server_lr: Of the server's steps, plain SGD.
        server_batch_size: Public examples in a step.
        seed: Of the order of public examples.
        weighting: Of the means: ``uniform`` or ``samples``. The consensus weighs clients by v_k.
        uplink: How a change is sent, from ``fedsep.wires``; float32 by default.
        downlink: How a model is sent; float32 by default.
        **local: The local steps: what ``learners.sgd`` takes.

    Bytes:
        up: 4 * d_own
        down: 4 * d_own

    d_own is the number of parameters of the client's architecture; W is never sent.

    Memory:
        Server: W, a model of each architecture, and of each public example of a round classes^2 numbers, whatever the
        cohort. Client: nothing between rounds.

    Reference:
        Cho et al. 2022, arXiv:2204.12703. There is no code of the authors. Of others' code are repaired (numbers as
        in docs/sub-models.md): the variance is of logits, not of log-probabilities (C3.1); examples on which nobody
        disagrees are left out of the second term, where adding a small number to the divisor would pull W to the
        uniform distribution (C3.2); an architecture without replies stays as it was (C3.3); teachers have no graph
        (C3.4).
    """
    public = shared("fedet", public)
    models = zoo_of("fedet", task, zoo, public, own=False)
    heads = heads_of({**{name: member.init() for name, member in models.members.items()}, SERVER: task.init()}, head)
    descent = Descent(server_steps, server_batch_size, server_lr)
    key = random.fold(random.key(seed), 8701)
    return FedSep(
        ByCapability(sgd(task, **local), models),
        codec=Population(models, served=SERVER),
        view=Prototypes(models),
        uplink=forgetful("fedet", uplink, models),
        downlink=downlink or Dense(),
        server=Consensus(models, task, public, descent, diversity, heads, key),
        weighting=weighting,
    )
