"""fedsep.testing: every law catches the part that breaks it, and says what was expected and what came."""

from dataclasses import dataclass, field, replace

import pytest
import torch
from catalogue import CATALOGUE, Row, linear, name, network, shard, shards

from fedsep import algorithms, testing, tree
from fedsep.codecs import Identity
from fedsep.core import Decoded, Update
from fedsep.fedsep import FedSep
from fedsep.learners import sgd
from fedsep.servers import Optimize
from fedsep.testing import (
    LawBroken,
    check_algorithm,
    check_codec,
    check_payload,
    check_server,
    check_view,
    check_wire,
    documented_bytes,
)
from fedsep.views import Whole
from fedsep.wires import Dense

PARAMS = network.init()


# One call each on what is sound


@pytest.mark.parametrize("row", [row for row in CATALOGUE if row.name in (
    "fedavg", "fedsep_linear", "fedsep_implicit of a condition", "fedsep_personal")], ids=name)  # fmt: skip
def test_one_call_checks_a_part(row: Row):
    algorithm = row.build()
    check_algorithm(algorithm, row.task, row.shards(), factory=row.factory, sizes=row.sizes)
    codec = row.build(converged=True).codec
    check_codec(codec, row.task.init(), shard(row.task), task=row.task, view=algorithm.view)
    check_wire(algorithm.uplink, row.task.init())
    check_view(algorithm.view, algorithm.init(row.task.init()).x)
    check_server(Optimize(), row.task.init())


def test_in_float32_too():
    torch.set_default_dtype(torch.float32)
    row = next(row for row in CATALOGUE if row.name == "fedsep_linear")
    algorithm = row.build()
    check_algorithm(algorithm, network, shards(network), factory=row.factory, sizes=row.sizes)
    check_codec(algorithm.codec, network.init(), shard(network), task=network, view=algorithm.view)
    check_server(Optimize(), network.init())


def test_a_law_says_what_was_expected_and_what_came():
    with pytest.raises(LawBroken) as caught:
        check_codec(Wrong("encode", lambda dx: tree.scale(dx, -1.0)), PARAMS, shard(network))
    error = caught.value
    assert isinstance(error, AssertionError)
    assert (error.subject, error.law) == ("Wrong", testing.codecs.ADJOINT)
    assert str(error).startswith(
        "Wrong breaks the law: <J u, v> = <u, encode(v)>, J the Jacobian of decode\n  expected: <J u, v> ="
    )
    assert "\n  got:      <u, encode(v)> = " in str(error)


# Codecs


@dataclass(frozen=True)
class Wrong(Identity):
    """The identity, with something done to what one of its functions gives."""

    function: str
    spoil: object

    def decode(self, x, memory, shard, ctx):
        start, memory = super().decode(x, memory, shard, ctx)
        return (Decoded(self.spoil(start.y)) if self.function == "decode" else start), memory

    def encode(self, start, y, x, memory, shard, ctx):
        dx, memory, info = super().encode(start, y, x, memory, shard, ctx)
        return (self.spoil(dx) if self.function == "encode" else dx), memory, info

    def advance(self, x, round):
        return (self.spoil(x) if self.function == "advance" else x), False

    def model(self, x):
        return self.spoil(x) if self.function == "model" else x


def _in_place(params):
    params["0.bias"].add_(1)
    return params


def _noisy(params):
    return {**params, "0.bias": params["0.bias"] + torch.randn(3)}


def _short(params):
    return {name: part for name, part in params.items() if name != "0.bias"}


def _nonlinear(params):
    return tree.map(lambda part: part * part.abs(), params)


def _swapped(params):
    return {**params, "0.weight": params["0.weight"].flip(0)}


@pytest.mark.parametrize(("function", "spoil", "law"), [
    ("encode", lambda dx: tree.scale(dx, -1.0), "<J u, v>"),
    ("encode", lambda dx: tree.scale(dx, 1.001), "<J u, v>"),
    ("encode", _swapped, "<J u, v>"),
    ("encode", _nonlinear, "encode is linear"),
    ("encode", lambda dx: tree.map(lambda part: part + 1e-3, dx), "encode is linear"),
    ("decode", lambda y: tree.map(torch.sin, y), "<J u, v>"),
    ("decode", _in_place, "leaves its arguments as they were"),
    ("decode", _noisy, "never from torch's global generator"),
    ("decode", _short, "decode and model give the model's parameters"),
    ("decode", lambda y: tree.map(torch.Tensor.float, y), "decode and model give the model's parameters"),
    ("model", _short, "decode and model give the model's parameters"),
    ("advance", lambda x: tree.scale(x, 1.01), "advance only renews coordinates"),
])  # fmt: skip
def test_a_wrong_codec_is_caught(function, spoil, law):
    with pytest.raises(LawBroken) as caught:
        check_codec(Wrong(function, spoil), network.init(), shard(network), task=network)
    assert law in str(caught.value)


def test_columns_and_remark_1_are_laws_of_their_own():
    at = testing.codecs.bench(Wrong("encode", _swapped), PARAMS, shard(network))
    with pytest.raises(LawBroken, match="finite differences of <decode"):
        testing.codecs.columns(at, 1e-6)
    with pytest.raises(LawBroken, match="Remark 1"):
        testing.codecs.remark_1(at, network, 1e-6)


def test_a_decode_that_is_stopped_early_is_no_argmin():
    row = next(row for row in CATALOGUE if row.name == "fedsep_personal")
    check_codec(row.build().codec, linear.init(), shard(linear), derivatives=False)
    with pytest.raises(LawBroken, match="<J u, v>"):
        testing.codecs.adjoint(testing.codecs.bench(row.build().codec, linear.init(), shard(linear)), 1e-6)


# Wires


@dataclass(frozen=True)
class WrongWire(Dense):
    spoil_payload: object = lambda payload: payload
    spoil_read: object = lambda read: read

    def pack(self, tree, memory, ctx):
        return self.spoil_payload(tree), memory

    def unpack(self, payload, like, ctx):
        return self.spoil_read(payload)


@pytest.mark.parametrize(("options", "law"), [
    ({"spoil_payload": lambda payload: {**payload, "count": 3}}, "tensors and nothing else"),
    ({"spoil_payload": lambda payload: {**payload, "none": None}}, "tensors and nothing else"),
    ({"spoil_payload": lambda payload: tree.map(lambda part: part.clone().requires_grad_(), payload)}, "detach it"),
    ({"spoil_payload": _noisy}, "never from torch's global generator"),
    ({"spoil_payload": _in_place}, "leaves its arguments as they were"),
    ({"spoil_read": lambda read: tree.scale(read, -1.0)}, "bit for bit"),
    ({"spoil_read": lambda read: tree.scale(read, 1 + 1e-15)}, "bit for bit"),
    ({"spoil_read": lambda read: tree.map(torch.Tensor.float, read)}, "names, shapes and dtypes"),
    ({"spoil_read": _short}, "names, shapes and dtypes"),
])  # fmt: skip
def test_a_wrong_wire_is_caught(options, law):
    with pytest.raises(LawBroken) as caught:
        check_wire(WrongWire(**options), network.init())
    assert law in str(caught.value)


def test_a_lossy_wire_is_held_to_what_it_declares():
    lossy = WrongWire(spoil_read=lambda read: tree.scale(read, 0.9))
    check_wire(lossy, PARAMS, error=0.11, idempotent=False)
    with pytest.raises(LawBroken, match=r"differs .* by the declared error at most"):
        check_wire(lossy, PARAMS, error=0.09, idempotent=False)
    with pytest.raises(LawBroken, match="unchanged the second time"):
        check_wire(lossy, PARAMS, error=0.11)
    with pytest.raises(LawBroken, match="nothing is read from nothing"):
        check_wire(WrongWire(spoil_read=lambda read: tree.map(lambda part: part + 1e-3, read)), PARAMS, error=0.1)


# Views


@dataclass(frozen=True)
class Half(Whole):
    """The first two rows of every parameter, pasted back with a factor."""

    factor: float = 1.0
    covered: float | None = None

    def cut(self, x, ctx):
        return {name: torch.cat([part[:2], torch.zeros_like(part[2:])]) for name, part in x.items()}

    def paste(self, dx, x, ctx):
        value = tree.scale(self.cut(dx, ctx), self.factor)
        cover = None if self.covered is None else tree.map(lambda part: torch.full_like(part, self.covered), x)
        return value, cover


@dataclass(frozen=True)
class Transposed(Whole):
    def paste(self, dx, x, ctx):
        return {name: part.mT.clone() if part.dim() == 2 else part for name, part in dx.items()}, None


def test_a_wrong_view_is_caught():
    check_view(Whole(), PARAMS)
    with pytest.raises(LawBroken, match="paste is the transpose of cut"):
        check_view(Half(2.0), PARAMS)
    with pytest.raises(LawBroken, match=r"cut\(paste\(u\)\) = u"):
        check_view(Half(), PARAMS)
    with pytest.raises(LawBroken, match="paste gives a change in x's names and shapes"):
        check_view(Transposed(), PARAMS)
    with pytest.raises(LawBroken, match=r"a cover has.*nowhere negative"):
        check_view(Half(covered=-0.5), PARAMS)
    with pytest.raises(LawBroken, match=r"no change at .* that is not covered"):
        check_view(Half(covered=0.0), PARAMS)


# Servers


@dataclass(frozen=True)
class WrongServer:
    kind: str

    def init(self, x):
        return {"velocity": tree.zeros_like(x)}

    def step(self, x, updates, state):
        if self.kind == "twice":
            updates = updates if isinstance(updates, list) else [*updates][1:]
        updates = list(updates)
        if not updates and self.kind != "coasts":
            return x, state
        total = tree.zeros_like(x if self.kind != "other parts" else {"w": x["w"]})
        for update in updates[-1:] if self.kind == "last" else updates:
            total = tree.add(total, update.value, update.weight)
        weight = sum(update.weight for update in updates) or 1.0
        change = tree.scale(total, {"subtracts": -1.0, "sums": weight}.get(self.kind, 1.0) / weight)
        velocity = tree.add(change, state["velocity"]) if self.kind == "coasts" else change
        if self.kind == "in place":
            for part in tree.leaves(x):
                part.add_(1)
        if self.kind == "other parts":
            return {"w": x["w"] + change["w"], "b": x["b"] + 1}, state
        if self.kind == "float32":
            velocity = tree.map(torch.Tensor.float, velocity)
            x = tree.map(torch.Tensor.float, x)
        if self.kind == "weights":
            velocity = tree.scale(velocity, 1 + weight)
        return tree.add(x, velocity), {"velocity": velocity}


@pytest.mark.parametrize(("kind", "law"), [
    ("subtracts", "the server adds"), ("sums", "equal changes act as one"), ("last", "order of the updates"),
    ("coasts", "without updates"), ("in place", "leaves its arguments"), ("twice", "a generator does"),
    ("float32", "x keeps its names"), ("weights", "act as one of them|ratios of the weights"),
])  # fmt: skip
def test_a_wrong_server_is_caught(kind, law):
    with pytest.raises(LawBroken, match=law):
        check_server(WrongServer(kind), network.init())


def test_a_server_that_moves_other_parts_is_caught():
    x = {"w": torch.zeros(2), "b": torch.zeros(2)}
    with pytest.raises(LawBroken, match="parts of x that no change names"):
        check_server(WrongServer("other parts"), x, like={"w": x["w"]})
    with pytest.raises(LawBroken, match="only the ratios of the weights"):
        testing.servers.weights(WrongServer("weights"), x, [Update({"w": torch.ones(2), "b": torch.ones(2)})])


# Methods


def method(**parts) -> FedSep:
    return FedSep(sgd(network, steps=1, batch_size=4), **parts)


@dataclass(frozen=True)
class Forgetful(FedSep):
    """Keeps something beside its state: what a client did changes what it does next."""

    notes: list = field(default_factory=list)

    def update(self, payload, client, shard, ctx):
        reply, client, info = super().update(payload, client, shard, ctx)
        self.notes.append(1)
        return tree.scale(reply, float(len(self.notes))), client, info


@dataclass(frozen=True)
class Smuggler(FedSep):
    """The server tells clients the round's scale through an attribute instead of the payload."""

    box: dict = field(default_factory=dict)

    def broadcast(self, state, ctx):
        self.box["scale"] = 1.0 + float(tree.norm(state.x))
        return super().broadcast(state, ctx)

    def update(self, payload, client, shard, ctx):
        reply, client, info = super().update(payload, client, shard, ctx)
        return tree.scale(reply, self.box.get("scale", 1.0)), client, info


class Extra(FedSep):
    def broadcast(self, state, ctx):
        return {**super().broadcast(state, ctx), "round": ctx.round}


class Counting(FedSep):
    def aggregate(self, state, replies):
        state, info = super().aggregate(state, replies)
        return state._replace(x=tree.scale(state.x, 0.999)), info


class Favouring(FedSep):
    def aggregate(self, state, replies):
        return super().aggregate(state, list(replies)[:1])


class Broken(FedSep):
    def model(self, state):
        return tree.scale(state.x, float("nan"))


class Holding(FedSep):
    def enroll(self, payload, ctx):
        return super().enroll(payload, ctx)._replace(wire=({1, 2},))


class Mutating(FedSep):
    """Commits the client's memory before its reply is accepted: it changes the memory that it was given."""

    def enroll(self, payload, ctx):
        return super().enroll(payload, ctx)._replace(codec={"rounds": torch.zeros(1)})

    def update(self, payload, client, shard, ctx):
        client.codec["rounds"].add_(1)
        return super().update(payload, client, shard, ctx)


class ByPosition(FedSep):
    """Reads a payload by the order of its names."""

    def update(self, payload, client, shard, ctx):
        reply, client, info = super().update(payload, client, shard, ctx)
        return {name: part * (n + 1) for n, (name, part) in enumerate(reply.items())}, client, info


@pytest.mark.parametrize(("kind", "law"), [
    (Forgetful, "equal arguments give equal results"), (Smuggler, "only what is in a payload"),
    (Extra, "tensors and nothing else"), (Counting, "only the clock moves"), (Favouring, "order of the replies"),
    (Broken, "all numbers finite"), (Holding, "state and memory hold tensors"),
    (Mutating, "leaves its arguments as they were"), (ByPosition, "order of the names"),
])  # fmt: skip
def test_a_wrong_method_is_caught(kind, law):
    broken = kind(
        **{part: getattr(method(), part) for part in ("learner", "codec", "view", "uplink", "downlink", "server")}
    )
    with pytest.raises(LawBroken, match=law):
        check_algorithm(broken, network, shards(network))


def test_a_method_without_one_of_the_six_functions_is_caught():
    with pytest.raises(LawBroken, match=r"no function broadcast"):
        check_algorithm(type("Half", (), {"init": lambda self, params: params})(), network, shards(network))

    class Renamed(FedSep):
        def aggregate(self, state, answers):
            return super().aggregate(state, answers)

    with pytest.raises(LawBroken, match=r"aggregate\(state, replies\)"):
        check_algorithm(Renamed(method().learner), network, shards(network))


@dataclass(frozen=True)
class Early:
    """A method whose memory is one for accepted and refused rounds: it hands out the same tensor every time."""

    inner: FedSep
    counts: dict = field(default_factory=dict)

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def update(self, payload, client, shard, ctx):
        reply, client, info = self.inner.update(payload, client, shard, ctx)
        taken = self.counts[float(shard.train.x[0, 0])] = self.counts.get(float(shard.train.x[0, 0]), 0) + 1
        return tree.scale(reply, 1.0 / taken), client, info


def test_a_dropped_reply_that_leaves_a_trace_is_caught():
    with pytest.raises(LawBroken, match="as one that never took part"):
        testing.algorithms.dropped(Early(method()), network, shards(network))


# Payloads and documents


def test_a_payload_is_tensors():
    check_payload({"a": [torch.zeros(2, 3).mT, torch.zeros(0, dtype=torch.uint8)], "b": torch.tensor(1.0)})
    shared = torch.zeros(4)
    check_payload({"a": shared[:2], "b": shared[1:3]})
    with pytest.raises(LawBroken, match=r"a tensor at \['n'\]\n  got:      int: 3"):
        check_payload({"n": 3})


def documented(text):
    def factory():
        pass

    factory.__doc__ = text
    return factory


GOOD = """A method.

    Bytes:
        up: 4 * p + ceil(d / 8)
        down: 4 * min(d, 2**3 * p)  # a comment is none of the arithmetic

    Memory:
        None.

    Reference:
        None.
    """


def test_closed_forms_are_read_from_the_docstring():
    assert documented_bytes(documented(GOOD), {"p": 10, "d": 25}) == {"up": 44, "down": 100}


@pytest.mark.parametrize(("old", "new", "says"), [
    ("Bytes:", "Size:", "nothing under Bytes:"),
    ("Memory:\n        None.", "Memory:", "nothing under Memory:"),
    ("Reference:", "Source:", "nothing under Reference:"),
    ("up:", "upwards:", "a line `up: EXPRESSION`"),
    ("4 * p + ceil", "4 * q + ceil", "'q' is not known"),
    ("4 * p +", "4 p +", "arithmetic on"),
    ("ceil(d / 8)", "open('x')", "is not known"),
])  # fmt: skip
def test_a_docstring_that_promises_nothing_is_caught(old, new, says):
    with pytest.raises(LawBroken) as caught:
        documented_bytes(documented(GOOD.replace(old, new)), {"p": 10, "d": 25})
    assert says in str(caught.value)


def test_other_bytes_than_documented_are_caught():
    wrong = documented(algorithms.fedavg.__doc__.replace("up: 4 * d", "up: 2 * d"))
    with pytest.raises(LawBroken, match=r"measured bytes equal the docstring's closed form\n  expected: .*'up': 54"):
        check_algorithm(algorithms.fedavg(network, steps=1), network, shards(network), factory=wrong)
    dropping = replace(algorithms.fedavg(network, steps=1), downlink=Dense(torch.bfloat16))
    with pytest.raises(LawBroken, match=r"measured bytes"):
        check_algorithm(dropping, network, shards(network), factory=algorithms.fedavg)
