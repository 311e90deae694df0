"""FedSep with personal models: a client decodes its own model from the server's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Unpack

from torch import Tensor

from fedsep import tree
from fedsep.algorithms.fedsep_implicit import fedsep_implicit
from fedsep.codecs.implicit import Curvature, Solver
from fedsep.core import Batch, Params, Task, Wire
from fedsep.fedsep import FedSep, Weighting
from fedsep.learners.sgd import LocalSGD, sgd
from fedsep.ranges import Count, NonNegativeInt, Positive, checked
from fedsep.servers.optimize import Rule


@dataclass(frozen=True)
class NearServer:
    """g(x, y, batch) = local loss(y; batch) + strength/2 |y - x|^2, as a ``Composite``."""

    task: Task
    strength: float

    def outputs(self, x: Params, y: Params, batch: Batch | None) -> Tensor:
        """The model's outputs."""
        assert batch is not None
        return self.task.predict(y, batch.x)

    def objective(self, outputs: Tensor, x: Params, y: Params, batch: Batch | None) -> Tensor:
        """Convex in outputs and y, whatever the model."""
        assert batch is not None
        distance = tree.sub(y, x)
        return self.task.criterion(outputs, batch.y) + self.strength / 2 * tree.dot(distance, distance)

    def __call__(self, x: Params, y: Params, batch: Batch | None) -> Tensor:
        """g."""
        return self.objective(self.outputs(x, y, batch), x, y, batch)


@checked(takes=sgd)
def fedsep_personal(
    task: Task,
    *,
    strength: Positive = 1.0,
    decode_steps: NonNegativeInt = 5,
    decode_lr: Positive = 0.1,
    decode_batch_size: Count | None = 64,
    warm_start: bool = False,
    solver: Solver = "cg",
    terms: NonNegativeInt = 10,
    tau: Positive = 0.1,
    tolerance: Positive = 1e-3,
    encode_batch_size: Count | None = 64,
    curvature: Curvature = "gauss_newton",
    server: Rule | None = None,
    weighting: Weighting = "uniform",
    uplink: Wire[Any] | None = None,
    downlink: Wire[Any] | None = None,
    **local: Unpack[LocalSGD],
) -> FedSep:
    r"""y_x = argmin_y f_m(y) + strength/2 |y - x|^2, the client's own model; dx = strength (H + strength I)^-1 dy.

    H is the Hessian of the client's loss at its own model, or its Gauss-Newton part (the default, never negative).
    For large ``strength`` this tends to FedAvg.

    Args:
        task: The local problem f.
        strength: lambda; the larger, the nearer the clients' models are to the server's.
        decode_steps: I_dec, steps on g.
        decode_lr: gamma, below 1/(L + strength).
        decode_batch_size: b_y; None takes all of the client's examples.
        warm_start: Decode from the client's last model instead of from x.
        solver: ``cg`` or ``neumann``, the paper's Eq. (3).
        terms: Largest number of steps of cg, or Q.
        tau: Step of the Neumann series, below 1/(L + strength).
        tolerance: Relative residual at which cg stops.
        encode_batch_size: b_x; None takes all of the client's examples.
        curvature: ``gauss_newton`` or ``hessian``.
        server: Server optimiser, from ``fedsep.servers``; plain averaging by default.
        weighting: ``uniform`` (line 20 of Algorithm 1) or ``samples``.
        uplink: How dx is sent, from ``fedsep.wires``; float32 by default.
        downlink: How x is sent; float32 by default. With any wire but ``wires.dense`` clients keep a copy of x, and the
            server sends its changes, by the rules of ``fedsep_quantised``: nothing in round 0, then the messages that a
            client missed, or x where that is smaller.
        **local: The local steps: what ``learners.sgd`` takes.

    Bytes:
        up: 4 * d
        down: 4 * d

    Memory:
        Server: the model. Client: its last model with ``warm_start``, else nothing.

    Reference:
        FedSep (NeurIPS 2023), Eq. (1) to (3), with the lower-level problem of pFedMe (arXiv:2006.08848).
    """
    return fedsep_implicit(
        task,
        inner=NearServer(task, strength),
        decode_steps=decode_steps,
        decode_lr=decode_lr,
        decode_batch_size=decode_batch_size,
        warm_start=warm_start,
        solver=solver,
        terms=terms,
        tau=tau,
        tolerance=tolerance,
        encode_batch_size=encode_batch_size,
        curvature=curvature,
        server=server,
        weighting=weighting,
        uplink=uplink,
        downlink=downlink,
        **local,
    )
