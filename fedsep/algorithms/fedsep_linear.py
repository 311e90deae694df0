"""FedSep with the linear codec of Remark 2 and a sketch that is re-drawn as training goes."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal, Unpack

from torch import Tensor

from fedsep import downlinks, random, tree
from fedsep.codecs.linear import Linear
from fedsep.codecs.spaces import Sketched
from fedsep.core import FedSepError, Task, Wire
from fedsep.downlinks import Downlink
from fedsep.fedsep import FedSep, Weighting
from fedsep.learners.sgd import LocalSGD, sgd
from fedsep.operators import MakeOperator, dct, gaussian
from fedsep.operators.gaussian import check_stored
from fedsep.operators.per_layer import scale_of
from fedsep.ranges import Count, Positive, checked
from fedsep.rates import USUAL_LR, check_sketch, server_rate, sketch_calendar
from fedsep.servers.optimize import Optimize, Rule
from fedsep.servers.sgd import SGDRule
from fedsep.views.catch_up import CatchUp
from fedsep.wires.dense import Dense
from fedsep.wires.error_feedback import forgetting

_DOWN = 1  # what the shared key is folded with for the downlink's draws


@checked(takes=sgd)
def fedsep_linear(
    task: Task,
    *,
    p: Count,
    period: Count | Literal["auto", "never"] = "auto",
    server_lr: Positive | None = None,
    server: Rule | None = None,
    operator: MakeOperator = dct,
    orthonormal: bool = True,
    weighting: Weighting = "uniform",
    uplink: Wire[Any] | None = None,
    downlink: Wire[Any] | None = None,
    seed: int = 0,
    **local: Unpack[LocalSGD],
) -> FedSep:
    r"""p numbers up and down: y = theta_0 + S^+ x, dx = (S^+)^T (y_I - y_0), S re-drawn every ``period`` rounds.

    A fixed S confines learning to a p-dimensional affine subspace. Here both ends fold what was decoded into
    the anchor, theta_0 <- theta_0 + S^+ x, x <- 0, and draw the next S from a shared key: nothing extra travels.
    With orthonormal rows a projection keeps p/d of a step, so the unbiased server rate is d/p; learning is
    stable up to about 7 sqrt(d/p), hence the default min(d/p, 6 sqrt(d/p)).

    Args:
        task: The local problem f; its initial parameters are the first anchor on both ends.
        p: Communication dimension, at most d, the number of model parameters.
        period: Rounds between two sketches; ``never`` keeps the first. ``auto``: 2 for p <= d/150, 3 to d/60,
            5 to d/20, 10 above. Tune it on validation data.
        server_lr: eta_g; None: c min(d/p, 6 sqrt(d/p)), where S S^T is about c I (c = 1 with orthonormal rows).
        server: Server optimiser of x, from ``fedsep.servers``, instead of averaging at ``server_lr``; its state
            starts anew with every sketch.
        operator: Makes S, from ``fedsep.operators``. The default, ``dct``, has exactly orthonormal rows for every d
            with nothing to factorise, so that a new S costs next to nothing; ``gaussian``, the law of the paper's
            theory, is stored and factorised at every re-draw. S^+ is computed exactly whatever S is, by conjugate
            gradients where S S^T is not I.
        orthonormal: Of ``operator=gaussian``: rows orthonormal (S S^T = I), or entries N(0, 1/p) as drawn (c = d/p).
        weighting: ``uniform`` (line 20 of Algorithm 1) or ``samples``.
        uplink: How dx is sent, from ``fedsep.wires``; float32 by default. Error feedback around it
            forgets at every re-draw.
        downlink: How x is sent; float32 by default. What is folded is what travelled; an anchor is never rounded. Any
            wire but ``wires.dense`` sends the server's changes of x, by the rules of ``fedsep_quantised``.
        seed: Of the sketches; the same on both ends.
        **local: The local steps: what ``learners.sgd`` takes.

    Bytes:
        up: 4 * p
        down: 4 * p

    A client in its first round 0 is sent nothing; one that was away is sent 4 p for every period that ended
    meanwhile, or everything (4 d + 4 p) when that is smaller.

    Memory:
        Server: the anchor, x, and the x of the last d/p periods: 4 (2 d + 2 p) bytes. Client: the anchor, 4 d.
        Both: S; 8 p for ``dct``, 4 p d for ``gaussian``, the others: see there.

    Reference:
        FedSep (NeurIPS 2023), Remark 2, read with the pseudo-inverse; the re-drawn sketch is this library's.
    """
    start = task.init()
    d = tree.size(start)
    check_sketch("fedsep_linear", p, d, server, server_lr)
    learner = sgd(task, **local)
    calendar = sketch_calendar(period, p, d)
    key = random.fold(random.key(seed), p)
    scale = _scale(operator, p, d, key, orthonormal)
    if operator is gaussian:
        operator = functools.partial(gaussian, orthonormal=orthonormal)
    rate = server_rate("fedsep_linear", p, d, scale, server_lr, local.get("lr", USUAL_LR))
    rule = Optimize({"omega": server or SGDRule(rate)})
    if downlink is None or isinstance(downlink, Dense):
        # A client that was away must get the very anchor that the others keep: rounded, it would never agree again.
        down = dataclasses.replace(downlink or Dense(), exact=("anchor",))
        codec = Linear(start, p, calendar, key, operator, down.dtype)
        parts = Downlink(codec=codec, view=CatchUp(calendar), server=rule, downlink=down)
    else:
        space = Sketched(start, p, calendar, key, operator)
        parts = downlinks.announced(space, downlink, rule, random.fold(key, _DOWN), p)
    return FedSep(learner, uplink=forgetting(uplink or Dense(), calendar.renewed), weighting=weighting, **parts)


def _scale(operator: MakeOperator, p: int, d: int, key: Tensor, orthonormal: bool) -> float:
    """c. The Gaussian's is known without making it, which takes a while; what cannot be made is found here."""
    if operator is gaussian:
        check_stored(p, d)
        return 1.0 if orthonormal else d / p
    if not orthonormal:
        raise FedSepError(
            "fedsep_linear: orthonormal=False is for operator=fedsep.operators.gaussian: another has the rows it has"
        )
    return scale_of(operator, p, d, key)
