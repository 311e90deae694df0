"""The arguments of Algorithm 1, with the paper's letters, and the library's method made from them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from fedsep.algorithms.fedsep_implicit import fedsep_implicit
from fedsep.core import Params, Tree
from fedsep.fedsep import FedSep
from fedsep.servers.sgd import sgd as server_sgd
from fedsep.theory.quadratic import Quadratic, QuadraticTask


@dataclass(frozen=True)
class Settings:
    """Arguments of a run.

    Attributes:
        terms: Q.
        tau: Step of the Neumann series.
        encode_batch: b_x; None: all examples.
        decode_steps: I_dec.
        decode_lr: gamma.
        batch: b_y, in decode and in learning.
        steps: I.
        lr: eta.
        server_lr: eta_g.
        reuse: One minibatch in all factors of the series.
        warm_start: Whether decode starts at the client's last y.
    """

    terms: int = 8
    tau: float = 0.9
    encode_batch: int | None = None
    decode_steps: int = 10
    decode_lr: float = 0.5
    batch: int | None = None
    steps: int = 3
    lr: float = 0.1
    server_lr: float = 0.1
    reuse: bool = False
    warm_start: bool = False


def method(bed: Quadratic, settings: Settings, copies: int) -> FedSep:
    """``fedsep_implicit`` on the first bed."""
    start = bed.start.expand(copies, -1)

    def initial(_: Params) -> Tree:
        return {"x": start.clone()}

    def cold(x: Tree) -> Params:
        return {"y": x["x"].new_zeros(copies, bed.sizes[0])}

    def serve(x: Tree) -> Params:
        return {"y": bed.solution(x["x"]).mean(0)}

    return fedsep_implicit(
        QuadraticTask(bed, copies),
        inner=bed.inner,
        initial=initial,
        start=cold,
        serve=serve,
        server=server_sgd(lr=settings.server_lr),
        **arguments(settings),
    )


def arguments(settings: Settings) -> dict[str, Any]:
    """The settings under the names of ``fedsep_implicit``."""
    return {
        "decode_steps": settings.decode_steps,
        "decode_lr": settings.decode_lr,
        "decode_batch_size": settings.batch,
        "warm_start": settings.warm_start,
        "terms": settings.terms,
        "tau": settings.tau,
        "encode_batch_size": settings.encode_batch,
        "reuse": settings.reuse,
        "lr": settings.lr,
        "steps": settings.steps,
        "batch_size": settings.batch,
    }


@contextmanager
def float64() -> Generator[None]:
    """Tensors are made in double precision inside, in one thread: what is measured here is smaller than float32's."""
    before, threads = torch.get_default_dtype(), torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
        torch.set_num_threads(threads)
