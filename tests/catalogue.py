"""Tiny instances of every method: the one list over which the laws are checked. A new method is a new row."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from weak import (
    HEAD,
    HIDDEN,
    INPUTS,
    OUTPUTS,
    classes_told,
    largest_sent,
    moves,
    own,
    places_sent,
    public,
    weights_sent,
    zoo,
)

from fedsep import algorithms, operators, random, servers, tree, wires
from fedsep.core import Batch, Params, Samples, Shard
from fedsep.fedsep import FedSep
from fedsep.gates import gate_scores
from fedsep.models.tracing.declared import table
from fedsep.operators import gaussian
from fedsep.tasks.ensemble import Ensemble
from fedsep.tasks.narrowed import narrowed
from fedsep.testing.algorithms import rehearse
from fedsep.testing.documented import Size
from fedsep.testing.play import Played


@dataclass(frozen=True)
class Tiny:
    """A task of few parameters: a linear model or a small network, with a squared or a cross-entropy loss."""

    hidden: int = HIDDEN
    squared: bool = False
    seed: int = 1

    def init(self) -> Params:
        sizes = [INPUTS, *([self.hidden] if self.hidden else []), OUTPUTS]
        shapes = [(f"{n}.{kind}", shape) for n in range(len(sizes) - 1)
                  for kind, shape in (("weight", (sizes[n + 1], sizes[n])), ("bias", (sizes[n + 1],)))]  # fmt: skip
        return {name: 0.5 * random.normal(random.fold(random.key(self.seed), n), *shape)
                for n, (name, shape) in enumerate(shapes)}  # fmt: skip

    def predict(self, params: Params, x: Tensor) -> Tensor:
        out = torch.nn.functional.linear(x, params["0.weight"], params["0.bias"])
        return torch.nn.functional.linear(out.tanh(), params["1.weight"], params["1.bias"]) if self.hidden else out

    def criterion(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self.squared:
            return 0.5 * (outputs - targets).square().sum(-1).mean()
        return torch.nn.functional.cross_entropy(outputs, targets)

    def loss(self, params: Params, batch: Batch) -> Tensor:
        return self.criterion(self.predict(params, batch.x), batch.y)

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        return {"loss": float(self.criterion(outputs, targets))}

    @property
    def d(self) -> int:
        return sum(part.numel() for part in self.init().values())


network, linear = Tiny(), Tiny(hidden=0, squared=True)


def shard(task: Tiny, client: int = 0, size: int = 7) -> Shard:
    """A client's examples; its inputs lie off the other clients'."""
    key = random.fold(random.key(100), client)
    x = random.normal(random.fold(key, 0), size, INPUTS) + 0.3 * client
    labels = random.integers(random.fold(key, 1), OUTPUTS, size)
    targets = random.normal(random.fold(key, 2), size, OUTPUTS) + 0.2 * client
    return Shard(Samples(x, targets if task.squared else labels))


def shards(task: Tiny, clients: int = 2) -> list[Shard]:
    """Clients of unequal sizes."""
    return [shard(task, client, 6 + 2 * client) for client in range(clients)]


@dataclass(frozen=True)
class Ridge:
    """g(x, y) = 1/2 |S y - x|^2 + rho/2 |y - theta_0|^2 over a sketch S: x has fewer numbers than y.

    In closed form y_x = theta_0 + (S^T S + rho I)^-1 S^T (x - S theta_0).
    """

    sketch: Tensor
    theta: Params
    rho: float = 2.0

    def initial(self, params: Params) -> dict[str, Tensor]:
        return {"sketched": self.sketch @ tree.ravel(params)[0]}

    def start(self, x: dict[str, Tensor]) -> Params:
        return self.theta

    def serve(self, x: dict[str, Tensor]) -> Params:
        flat, unravel = tree.ravel(self.theta)
        matrix = self.sketch.mT @ self.sketch + self.rho * torch.eye(flat.numel())
        return unravel(flat + torch.linalg.solve(matrix, self.sketch.mT @ (x["sketched"] - self.sketch @ flat)))

    def __call__(self, x: dict[str, Tensor], y: Params, batch: Batch | None) -> Tensor:
        # By name: a tree's order of names means nothing.
        flat, start = (torch.cat([part[name].reshape(-1) for name in self.theta]) for part in (y, self.theta))
        return 0.5 * (self.sketch @ flat - x["sketched"]).square().sum() + self.rho / 2 * (flat - start).square().sum()


def ridge(p: int = 5) -> Ridge:
    """A ridge decode of the network's parameters from p numbers."""
    return Ridge(gaussian(p, network.d, random.key(5)).rmv(torch.eye(p)), network.init())


def skewed(x: Params, y: Params, batch: Batch | None) -> Params:
    """An optimality condition that is no gradient: F(x, y) = y + 0.3 K y + 0.1 tanh(y) - x, K not symmetric."""

    def part(a: Tensor, b: Tensor) -> Tensor:
        return b + 0.3 * b.roll(1, 0) + 0.1 * b.tanh() - a

    return {name: part(x[name], y[name]) for name in y}


@dataclass(frozen=True)
class Row:
    """One tiny instance.

    Attributes:
        name: The row's name in test reports; its first word is the factory's.
        task: The local problem.
        arguments: Of the factory beside the task; made when called, in the default float type of then.
        converged: Replaces some of them where encode must be the transposed Jacobian of decode: more steps,
            all data. None: the row's decode or encode is meant to be rough.
        narrow: Whether a wire rounds: then the bytes are not those of float32.
        sizes: Values of the names in the docstring's closed forms of bytes.
        capabilities: Of the clients, in their order.
        base: The task that the factory is given, where the method solves another one, which is then ``task``.
    """

    name: str
    task: Any
    arguments: Callable[[], Mapping[str, Any]]
    converged: Mapping[str, Any] | None
    narrow: bool
    sizes: Mapping[str, Size]
    capabilities: tuple[float, ...] = (1.0,)
    base: Tiny | None = None

    @property
    def factory(self) -> Callable[..., FedSep]:
        return getattr(algorithms, self.name.split(" ")[0])

    def build(self, *, converged: bool = False) -> FedSep:
        more = self.converged if converged and self.converged is not None else {}
        return self.factory(self.base or self.task, **{**self.arguments(), **more})

    def shards(self) -> list[Shard]:
        return shards(self.base or self.task)


def row(
    name: str,
    task: Any = network,
    *,
    converged: Mapping[str, Any] | None = MappingProxyType({}),
    narrow: bool = False,
    sizes: Mapping[str, Size] | None = None,
    made: Callable[[], Mapping[str, Any]] = dict,
    capabilities: tuple[float, ...] = (1.0,),
    base: Tiny | None = None,
    **arguments: Any,
) -> Row:
    """A row with two local steps on minibatches of four, unless the arguments say otherwise."""
    local = {} if "epochs" in arguments else {"steps": 2}
    every = {**local, "batch_size": 4, **arguments}
    return Row(name, task, lambda: {**every, **made()}, converged, narrow, sizes or {}, capabilities, base)


def _ridge() -> Mapping[str, Any]:
    g = ridge()
    return {"inner": g, "initial": g.initial, "start": g.start, "serve": g.serve}


def changed(played: Played, number: int, client: int) -> int:
    """Coordinates of the model that are no longer what they were when the client was last seen."""
    seen = max(played.seats[number][client].ctx.seen, 0)
    models = [played.states[n].x["model"] for n in range(seen, number + 1)]
    moved = [{name: a[name] != b[name] for name in a} for a, b in itertools.pairwise(models)]
    return sum(int(sum(each[name] for each in moved).bool().sum()) for name in models[0]) if moved else 0


def _golomb_bits(places: Tensor, count: int, size: int) -> int:
    """Unary quotient, a zero, and the low bits of each gap; written down from the formula."""
    low = max(0, 1 + math.floor(math.log2(math.log((math.sqrt(5) - 1) / 2) / math.log(1 - count / size))))
    gaps = [b - a - 1 for a, b in itertools.pairwise([-1, *places.tolist()])]
    return sum((gap >> low) + 1 + low for gap in gaps)


def _read_places(wire: Any, payload: Any, seat: Any, task: Tiny) -> Tensor:
    flat = tree.ravel(dict(sorted(wire.unpack(payload, task.init(), seat.ctx).items())))[0]
    return flat.nonzero()[:, 0]


def gaps(k: int, task: Tiny = network) -> Size:
    """Bits of the positions that a client sends."""
    wire = wires.error_feedback(wires.topk(k, values=wires.sign(), index="golomb"))

    def count(played: Played, number: int, client: int) -> int:
        seat = played.seats[number][client]
        return _golomb_bits(_read_places(wire, seat.reply, seat, task), k, task.d)

    return count


def gaps_down(k: int, task: Tiny = network) -> Size:
    """Bits of the positions that a client is sent; nothing in round 0."""
    wire = wires.topk(k, values=wires.sign(), index="golomb")

    def count(played: Played, number: int, client: int) -> int:
        seat = played.seats[number][client]
        missed = seat.sent["missed"]
        return sum(_golomb_bits(_read_places(wire, news[0], seat, task), k, task.d) for news in missed)

    return count


UNITS = table(network.init(), {"0.weight": ("hidden", None), "0.bias": ("hidden",), "1.weight": (None, "hidden")},
              OUTPUTS)  # fmt: skip
"""The network's one hidden layer."""


def held(*, least: float = 0.0) -> Size:
    """Parameters of a client's sub-model."""

    def count(played: Played, number: int, client: int) -> int:
        capability = played.seats[number][client].ctx.capability
        units = max(1, math.ceil(capability * HIDDEN))
        return 0 if capability < least else INPUTS * units + units + units * OUTPUTS + OUTPUTS

    return count


def numbers(*, least: float = 0.0) -> Size:
    """Units of a client's sub-model."""
    parameters = held(least=least)
    return lambda *at: max(parameters(*at) - OUTPUTS, 0) / (INPUTS + 1 + OUTPUTS)  # type: ignore[operator]


def turns(every: int | None, due: float, again: float = 0.0) -> Size:
    """What is sent at every refresh, and again in between where the report must be counted on."""

    def count(played: Played, number: int, client: int) -> float:
        turn = number if every is None else number % every
        return due if turn == 0 else again if every and turn + 1 < every else 0.0

    return count


def scored(each: float, stamp: float, again: bool = False) -> Size:
    """At every third refresh: some bytes for each unit of the sub-model, and the stamps; the same in between."""
    units = numbers()
    return lambda played, number, client: (
        each * units(played, number, client) + stamp if number % 3 == 0 or (again and number % 3 == 1) else 0.0
    )  # type: ignore[operator]


def sent_whole(every: int) -> Size:
    """Parameters that are sent where the whole model is scored at every refresh."""
    part = held()
    return lambda *at: part(*at) if at[1] % every else network.d  # type: ignore[operator]


MIX = Ensemble(narrowed(network, UNITS, 1 / 3)[0], 3)
"""Three networks of one hidden unit each."""


def mixed(played: Played, number: int, client: int) -> float:
    """Parameters of the networks that a client is sent: as many as a third goes into its capability, at least one."""
    return max(1, int(3 * played.seats[number][client].ctx.capability)) * (INPUTS + 1 + OUTPUTS + OUTPUTS)


MIX_OF_TWO = Ensemble(narrowed(network, UNITS, 1 / 2)[0], 2)
"""Two networks of two hidden units each."""


def of_two(*, parameters: bool = False) -> Size:
    """Units, or parameters, of what a client is sent of two networks: whole ones, or a part of one."""

    def count(played: Played, number: int, client: int) -> int:
        share = 2 * played.seats[number][client].ctx.capability
        units = [math.ceil(min(1.0, share) * 2)] * max(1, int(share))
        return sum(each * (INPUTS + 1 + OUTPUTS) + OUTPUTS if parameters else each for each in units)

    return count


_told = {"classes": OUTPUTS, "numbers": 0}
_later = {"classes": classes_told(), "numbers": 0}
_slices = {"p": held(), "classes": OUTPUTS, "numbers": 0}
_gates = {"scores": functools.partial(gate_scores, inputs=(INPUTS,), form="free", steps=3, batch_size=4), "images": 5}
_silent = {"p": held(), "classes": 0, "numbers": 0}
_weighed = {**_slices, "numbers": numbers()}
_part = {"units": UNITS, "capabilities": (0.5, 0.3), "converged": None}

_tensors = [part.numel() for part in network.init().values()]


_two_signs = functools.partial(operators.sparse_signs, nonzeros=2)
_half = wires.dense(dtype="bfloat16")
_weak = (0.75, 0.5)
_one_bit = {"p": 6, "bits": 1, "bits_down": 1, "scale_bits": 8}
_p, _d = {"p": 6}, {"p": network.d}
_rough = {"decode_steps": 3, "decode_batch_size": 3, "encode_batch_size": 3, "terms": 3, "tau": 0.08,
          "decode_lr": 0.08, "strength": 10.0}  # fmt: skip
_whole = {"decode_batch_size": None, "encode_batch_size": None, "tolerance": 1e-10, "decode_steps": 14, "terms": 14}
_few = {"made": _ridge, "decode_steps": 3, "decode_lr": 0.4, "terms": 3, "tau": 0.4, "sizes": {"p": 5}}
_sparse = {"p": 6, "beta": 0.3, "decode_steps": 20, "terms": 10, "server_lr": 1.0, "sizes": _p}
_solved = {"decode_steps": 160, "tolerance": 0.0, "terms": 100, "damping": 0.0}
_more = {"decode_steps": 16, "terms": 16, "tolerance": 1e-12}

CATALOGUE = [
    row("fedavg"),
    row("fedavg with epochs", epochs=1),
    row("fedavg with every option", momentum=0.5, weight_decay=0.01, clip=0.5, weighting="uniform"),
    row("fedavg in float16", narrow=True, uplink=wires.dense(dtype="float16")),
    row("fedavg in bfloat16", narrow=True, uplink=_half, downlink=_half),
    row("fedavg under momentum", server=servers.sgd(lr=0.5, momentum=0.9)),
    row("fedavg under adam", server=servers.adam()),
    row("fedavg under yogi", server=servers.yogi()),
    row("fedprox", mu=0.5),
    # Where the client keeps a copy of the model, decode is checked in test_downlink: a change is not all it is sent.
    row("fetchsgd", p=15, rows=3, k=4, sizes={"p": 15, "changed": changed}, converged=None),
    row("fetchsgd as printed", p=9, k=2, server_momentum=0.5, error_update="subtract", lr_in_error=True,
        mask_momentum=False, server_schedule=lambda round: 1 / (1 + round), sizes={"p": 9, "changed": changed},
        converged=None),
    row("topk_ef", k=3, sizes={"k": 3, "changed": changed}, converged=None),
    row("topk_ef of all coordinates", k=network.d, sizes={"k": network.d, "changed": changed}, converged=None),
    row("topk_ef under momentum", k=3, server=servers.sgd(lr=0.5, momentum=0.9), converged=None,
        sizes={"k": 3, "changed": changed}),
    row("topk_ef of each tensor in packed positions", fraction=0.2, per="tensor", index="packed", narrow=True,
        values=_half, converged=None),
    row("topk_ef with a quantised downlink", k=3, downlink=wires.lloyd_max(bits=2), narrow=True, converged=None),
    row("stc", k=4, converged=None,
        sizes={"k": 4, "k_down": 4, "scale_bits": 32, "gaps": gaps(4), "gaps_down": gaps_down(4)}),
    row("stc with fewer down", k=6, k_down=2, scale_bits=8, index="packed", narrow=True, converged=None),
    row("signsgd_ef", sizes={"signs": sum(-(-n // 8) for n in _tensors), "tensors": 4, "scale_bits": 32}),
    row("signsgd_ef both ways", per="global", downlink=wires.sign(), narrow=True, converged=None),
    row("terngrad", sizes={"codes": sum(-(-n // 4) for n in _tensors), "tensors": 4}),
    row("terngrad without clipping", sigma=None, sizes={"codes": sum(-(-n // 4) for n in _tensors), "tensors": 4}),
    row("qsgd", levels=3, bucket=8, sizes={"levels": 3, "bucket": 8}),
    row("qsgd both ways", levels=15, downlink=wires.qsgd(15), narrow=True, converged=None),
    row("dgc", fraction=0.1, warmup=(), sizes={"k": sum(math.ceil(0.1 * n) for n in _tensors), "changed": changed},
        converged=None),
    row("dgc with warm-up and nesterov", fraction=0.1, warmup=(0.5, 0.25), nesterov=True, per="global", narrow=True,
        converged=None),
    row("powersgd", sizes={"factors": 7 + 6 + 6, "factors_down": 7 + 6 + 6}, converged=None),
    row("powersgd of full rank", rank=3, sizes=dict.fromkeys(("factors", "factors_down"), network.d), converged=None),
    row("eden", sizes={"bits": 1, "fraction": 1, "scale_bits": 32}),
    row("eden both ways", bits=2, fraction=0.5, bits_down=3, scale_bits=8, narrow=True, converged=None),
    row("fedavg with a sparse ternary downlink", narrow=True, converged=None,
        downlink=wires.topk(4, values=wires.sign(), index="golomb")),
    # What SCAFFOLD says of c is no derivative of decode.
    row("scaffold", clients=8, converged=None),
    # By tensor: of all at once, what is said of the model would depend on c.
    row("scaffold with a sign downlink", clients=8, downlink=wires.sign(per="tensor"), narrow=True, converged=None),
    row("scaffold with local momentum", clients=8, momentum=0.5, epochs=1, converged=None),
    row("fedsep_linear", p=6, period=2, sizes=_p),
    row("fedsep_linear drawn once", p=6, period="never", sizes=_p),
    row("fedsep_linear as drawn", p=6, period=3, operator=operators.gaussian, orthonormal=False, server_lr=1.0,
        sizes=_p),
    row("fedsep_linear with p = d", p=network.d, period=2, sizes=_d),
    row("fedsep_linear over a Gaussian", p=6, period=2, operator=operators.gaussian, sizes=_p),
    row("fedsep_linear over Hadamard blocks", p=6, period=2, operator=operators.block_srht, sizes=_p),
    row("fedsep_linear over sparse signs", p=6, period=2, operator=_two_signs, server_lr=1.0, sizes=_p),
    row("fedsep_linear over layers", p=6, period=2, operator=operators.per_layer(network), sizes=_p),
    row("fedsep_linear by samples", p=6, period=2, weighting="samples", sizes=_p),
    row("fedsep_linear under adam", p=6, period=3, server=servers.adam(), sizes=_p),
    row("fedsep_linear in bfloat16", p=6, period=2, narrow=True, uplink=_half, downlink=_half, sizes=_p),
    row("fedsep_quantised", p=6, period=2, converged=None, sizes=_one_bit),
    row("fedsep_quantised in three bits", p=6, period="never", bits=3, bits_down=2, scale_bits=8,
        converged=None, sizes={"p": 6, "bits": 3, "bits_down": 2, "scale_bits": 8}),
    row("fedsep_quantised over a gaussian by samples", p=6, period=1, operator=gaussian, weighting="samples",
        converged=None, sizes=_one_bit),
    row("fedsep_quantised under momentum", p=6, period=3, server=servers.sgd(lr=0.7, momentum=0.9), scale_bits=32,
        converged=None, sizes={**_one_bit, "scale_bits": 32}),
    row("fedsep_lasso", **_sparse, converged=_solved),
    row("fedsep_lasso by ista and neumann", **_sparse, decoder="ista", encoder="neumann", gamma=0.3,
        converged={**_solved, "decode_steps": 700, "terms": 700}),
    row("fedsep_lasso of private sketches", **_sparse, private=True, warm_start=True, converged=_solved),
    row("fedsep_lasso with few bits down", **_sparse, warm_start=True, downlink=wires.lloyd_max(bits=3), narrow=True,
        converged=None),
    row("fedsep_lasso of its minimiser", **_sparse, start="zero", warm_start=True, converged=_solved),
    row("fedsep_lasso without columns", **{**_sparse, "server_lr": None}, operator=gaussian, encoder="cg",
        server=servers.adam(), converged=_solved),
    row("fedsep_implicit of a ridge", **_few, converged=_more),
    row("fedsep_implicit of a ridge without warm start", **_few, warm_start=False, converged=_more),
    row("fedsep_implicit of a ridge by cg", **_few, solver="cg", converged=_more),
    row("fedsep_implicit of a condition", optimality=skewed, decode_steps=3, decode_lr=0.9, terms=3, tau=0.9, sizes=_d,
        converged={"decode_steps": 24, "terms": 24}),
    row("fedsep_personal", linear, **_rough, converged=_whole),
    row("fedsep_personal with a sparse downlink", linear, **_rough, downlink=wires.topk(5), narrow=True,
        converged=None),
    row("fedsep_personal with warm start", linear, **_rough, warm_start=True, converged=_whole),
    row("fedsep_personal by neumann", linear, **_rough, solver="neumann", curvature="hessian", converged=_whole),
    row("fedsep_personal of a network", **_rough, curvature="hessian", converged=_whole),
    row("fedsep_personal by gauss-newton", **_rough, converged=None),
    row("fedsep_personal by fresh minibatches", **_rough, solver="neumann", curvature="hessian", converged=None),
    # With classes told, a reply holds more than a change; without, decode is the identity on the sub-model.
    row("heterofl", **_part, sizes=_slices),
    row("heterofl of all outputs", **{**_part, "converged": MappingProxyType({})}, own_classes=False, sizes=_silent),
    row("heterofl under adam by samples", **_part, reduce="mean", weighting="samples", server=servers.adam(),
        momentum=0.5, weight_decay=0.01, sizes=_slices),
    row("heterofl in bfloat16", **_part, uplink=_half, downlink=_half, narrow=True),
    row("heterofl with quantised replies", **_part, uplink=wires.qsgd(15), narrow=True),
    row("fedrolex", **_part, sizes=_slices),
    row("fedrolex of all outputs", **{**_part, "converged": MappingProxyType({})}, own_classes=False, sizes=_silent),
    row("heterofl by importance", **_part, reduce="importance", sizes=_weighed),
    row("fedrolex by shuffled importance", **_part, reduce="shuffled", own_classes=False,
        sizes={**_weighed, "classes": 0}),
    row("fjord by importance", **_part, widths=(0.3, 0.5), reduce="importance", sizes=_weighed),
    row("federated_dropout", **_part, sizes=_slices),
    row("federated_dropout untied", **_part, untied=True, sizes=_slices),
    row("fjord", **_part, widths=(0.3, 0.5), sizes=_slices),
    row("fjord with distillation", **_part, widths=(0.3, 0.5), distil=True, epochs=1, sizes=_slices),
    row("homogeneous", units=UNITS, converged=None, sizes={"p": network.d, "classes": OUTPUTS, "numbers": 0}),
    row("homogeneous by importance", units=UNITS, converged=None, reduce="importance", capabilities=(1.0, 0.3),
        sizes={"p": network.d, "classes": OUTPUTS, "numbers": HIDDEN}),
    row("fedsep_importance", **_part, sizes=_weighed),
    row("fedsep_importance shuffled", **_part, reduce="shuffled", own_classes=False, sizes={**_weighed, "classes": 0}),
    row("splitmix", MIX, base=network, units=UNITS, blocks=3, capabilities=(0.7, 0.3), converged=None,
        sizes={"p": mixed, "classes": OUTPUTS, "numbers": 0}),
    row("splitmix of all outputs", MIX, base=network, units=UNITS, blocks=3, capabilities=(0.7, 0.3),
        own_classes=False, converged=None, sizes={"p": mixed, "classes": 0, "numbers": 0}),
    row("splitmix by importance", MIX_OF_TWO, base=network, units=UNITS, blocks=2, capabilities=(1.0, 0.2),
        converged=None, reduce="importance",
        sizes={"p": of_two(parameters=True), "classes": OUTPUTS, "numbers": of_two()}),
    row("splitmix by shuffled importance", MIX_OF_TWO, base=network, units=UNITS, blocks=2, capabilities=(1.0, 0.2),
        converged=None, reduce="shuffled", own_classes=False,
        sizes={"p": of_two(parameters=True), "classes": 0, "numbers": of_two()}),
    row("exclude", **_part, least=0.4,
        sizes={"p": held(least=0.4), "numbers": 0, "classes": lambda *at: OUTPUTS if held(least=0.4)(*at) else 0}),
    row("exclude by importance", **_part, least=0.4, reduce="importance", own_classes=False,
        sizes={"p": held(least=0.4), "numbers": numbers(least=0.4), "classes": 0}),
    row("fedsep_mask by Taylor scores", **_part, scores="taylor",
        sizes={**_slices, "p_down": sent_whole(2), "p_second": 0, "report": turns(2, 2 * HIDDEN + 4)}),
    row("fedsep_mask on the sub-model", **_part, scores="taylor", scored_on="held", refresh_every=3,
        rolling=0.5, own_classes=False,
        sizes={**_silent, "p_down": held(), "p_second": 0, "report": turns(3, 2 * HIDDEN + 8, 2 * HIDDEN + 8)}),
    row("fedsep_mask beside an order in common", **_part, scores="taylor", common=0.5,
        sizes={**_slices, "p_down": sent_whole(2), "p_second": 0, "report": turns(2, 2 * HIDDEN + 4)}),
    row("fedsep_mask ranked once by importance", **_part, scores="taylor", refresh_every=None, reduce="importance",
        budget="params", uplink=_half, narrow=True),
    row("fedsep_mask of both terms", **_part, **_gates, terms="both",
        sizes={**_slices, "p_down": sent_whole(2), "p_second": turns(2, network.d),
               "report": turns(2, 2 * HIDDEN + 4)}),
    row("fedsep_mask of both terms for strong clients, too", **{**_part, "capabilities": (1.0, 0.3)}, **_gates,
        terms="both", damping=0.1, refresh_every=1, rolling=0.5, reduce="importance", own_classes=False,
        weighting="samples", server=servers.adam(), uplink=wires.qsgd(15), narrow=True),
    row("fedsep_shared", **_part,
        sizes={**_slices, "p_down": sent_whole(2), "units": numbers(), "told": turns(2, 4 * HIDDEN + 4)}),
    row("fedsep_shared on the sub-model by importance", **_part, scored_on="held", refresh_every=1, rolling=0.5,
        reduce="importance", weighting="samples", server=servers.adam(),
        sizes={**_weighed, "p_down": held(), "units": numbers(), "told": lambda *at: 4 * numbers()(*at)}),
    row("fedsep_shared of clusters", **_part, clusters=3, memory=0.5, reduce="mean", refresh_every=3,
        sizes={**_slices, "p_down": sent_whole(3), "units": numbers(), "told": turns(3, *[4 * HIDDEN + 8] * 2)}),
    row("fedsep_shared of clusters on the sub-model", **_part, clusters=2, scored_on="held", refresh_every=3,
        sizes={**_slices, "p_down": held(), "units": numbers(), "told": scored(6, 8, again=True)}),
    row("kept_random", **_part, sizes={**_slices, "first": turns(None, 8)}),
    row("kept_random beside an order in common", **_part, common=0.5, sizes={**_slices, "first": turns(None, 8)}),
    row("kept_random of all outputs", **_part, own_classes=False, sizes={**_silent, "first": turns(None, 8)}),
    row("shared_random", **_part, seed=3, sizes=_slices),
    # What of dy is sent depends on y: encode is no derivative of decode.
    row("zerofl", density=0.4, extra=0.2, outputs=HEAD, converged=None, sizes=largest_sent(0.4, 0)),
    row("zerofl of all outputs", density=0.4, extra=0.2, own_classes=False, converged=None,
        sizes={**largest_sent(0.4, 0), "classes": 0}),
    row("zerofl of weights as int32", density=0.4, extra=0.2, variant="top_k_weights", places="int32", outputs=HEAD,
        converged=None,
        sizes=largest_sent(0.4, 0, 4)),
    row("zerofl by capability", density=0.9, extra=0.2, variant="top_k_diff", average="sent", scale="params",
        served=0.5, outputs=HEAD, converged=None, capabilities=_weak, sizes=largest_sent(0.9, 2)),
    row("zerofl in packed positions and bfloat16", density=0.3, places="packed", uplink=_half, narrow=True,
        outputs=HEAD, converged=None),
    row("zerofl by importance", density=0.4, extra=0.2, outputs=HEAD, units=UNITS, reduce="importance",
        converged=None, sizes={**largest_sent(0.4, 0), "numbers": HIDDEN}),
    row("zerofl by shuffled importance of what is sent", density=0.4, extra=0.2, own_classes=False, units=UNITS,
        average="sent", reduce="shuffled", converged=None, uplink=_half, narrow=True),
    row("feddst by importance", density=0.7, readjust=0.5, every=1, scale="width", distribution="uniform",
        outputs=HEAD, units=UNITS, reduce="importance", converged=None, capabilities=_weak,
        sizes={"classes": OUTPUTS, "numbers": HIDDEN, "sent": weights_sent(1, 0.7),
               "places_down": places_sent(always=True), "places_up": moves(1)}),
    row("feddst by shuffled importance", density=0.5, own_classes=False, units=UNITS, reduce="shuffled",
        converged=None, uplink=_half, narrow=True),
    row("flash by importance", density=0.5, first_epochs=2, outputs=HEAD, units=UNITS, reduce="importance",
        converged=None, sizes={"classes": classes_told(), "numbers": classes_told(HIDDEN),
            "sent_up": weights_sent(first=2), "sent_down": weights_sent(first=0),
            "places_up": places_sent(always=True), "places_down": places_sent(always=False)}),
    row("feddst", density=0.5, readjust=0.4, every=2, until=4, outputs=HEAD, converged=None,
        sizes={**_told, "sent": weights_sent(), "places_down": places_sent(always=False), "places_up": moves(2)}),
    row("feddst of all outputs", density=0.5, readjust=0.4, every=2, own_classes=False, converged=None,
        sizes={**_told, "classes": 0, "sent": weights_sent(), "places_down": places_sent(always=False),
               "places_up": moves(2)}),
    row("feddst by capability", density=0.7, readjust=0.5, every=1, scale="width", distribution="uniform",
        outputs=HEAD, converged=None, capabilities=_weak,
        sizes={**_told, "sent": weights_sent(1, 0.7), "places_down": places_sent(always=True),
               "places_up": moves(1)}),
    row("feddst in golomb positions and bfloat16", density=0.3, places="golomb", downlink=_half, narrow=True,
        outputs=HEAD, converged=None),
    row("flash", density=0.5, first_epochs=2, until=6, outputs=HEAD, converged=None,
        sizes={**_later, "sent_up": weights_sent(first=2), "sent_down": weights_sent(first=0),
               "places_up": places_sent(always=True), "places_down": places_sent(always=False)}),
    row("flash by spdst", density=0.5, variant="spdst", first_epochs=2, outputs=HEAD, converged=None,
        sizes={**_later, "sent_up": weights_sent(first=2), "sent_down": weights_sent(first=0), "places_up": 0,
               "places_down": places_sent(always=False)}),
    row("flash by spdst in few bits", density=0.5, variant="spdst", first_epochs=2, outputs=HEAD, converged=None,
        uplink=wires.error_feedback(wires.qsgd(15)), narrow=True),
    row("flash of all outputs", density=0.5, first_epochs=2, own_classes=False, converged=None,
        sizes={"classes": 0, "numbers": 0, "sent_up": weights_sent(first=2), "sent_down": weights_sent(first=0),
               "places_up": places_sent(always=True), "places_down": places_sent(always=False)}),
    row("flash by capability", density=0.8, first="uniform", scale="width", outputs=HEAD, converged=None,
        capabilities=_weak,
        sizes={**_told, "sent_up": weights_sent(1, 0.8), "sent_down": weights_sent(1, 0.8),
               "places_up": places_sent(always=True), "places_down": places_sent(always=True)}),
    # A zoo's clients have x of other shapes than the task's model: what they learn is no decode of it.
    row("feddf", made=zoo(), server_steps=3, server_batch_size=5, converged=None, capabilities=(1.0, 0.5),
        sizes={"d_own": own(2)}),
    row("feddf of one architecture", made=lambda: {"public": public()}, server_steps=2, server_clip=None,
        server_batch_size=7, converged=None, sizes={"d_own": network.d}),
    row("dsfl", made=zoo(), per_round=8, distil_steps=2, distil_batch_size=5, converged=None, capabilities=(1.0, 0.5),
        sizes={"n": 8, "classes": OUTPUTS}),
    row("dsfl by simple means", made=lambda: {"public": public()}, per_round=12, distil_steps=2, aggregation="sa",
        weighting="samples", server_steps=1, converged=None, sizes={"n": 12, "classes": OUTPUTS}),
    row("fedet", made=zoo(heads=True), server_steps=3, server_batch_size=5, converged=None, capabilities=(1.0, 0.5),
        sizes={"d_own": own(2, HIDDEN)}),
]  # fmt: skip

CONVERGED = [each for each in CATALOGUE if each.converged is not None]
"""Rows whose encode can be made the transposed Jacobian of their decode."""


@functools.cache
def _rehearsed(name: str) -> tuple[FedSep, Played]:
    row = next(each for each in CATALOGUE if each.name == name)
    algorithm = row.build()
    return algorithm, rehearse(algorithm, row.task, row.shards(), capabilities=row.capabilities)


def rehearsed(row: Row) -> tuple[FedSep, Played]:
    """The row's method and some rounds of it in which everybody takes part, played once for all laws."""
    return _rehearsed(row.name)


def name(of: Row) -> str:
    """What a row is called in test reports."""
    return of.name
