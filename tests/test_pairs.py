"""Parts that do not fit one another are named before anything runs; what is only unwise is warned of."""

from dataclasses import dataclass, replace

import pytest
import torch
from catalogue import CATALOGUE, name, network, ridge, shards

from fedsep import algorithms, data, downlinks, models, operators, random, servers, tasks, tree, wires
from fedsep.cli import invoke
from fedsep.core import FedSepError
from fedsep.learners import sgd
from fedsep.pairs import Finding, findings
from fedsep.servers import Optimize, coverage_mean
from fedsep.servers.sgd import SGDRule
from fedsep.testing import LawBroken, check_algorithm, play
from fedsep.testing.play import everybody
from fedsep.train import fit


@pytest.mark.parametrize("row", CATALOGUE, ids=name)
def test_no_shipped_pair_is_refused_or_warned_of(row):
    assert findings(row.build(), row.task.init()) == []


@dataclass(frozen=True)
class Table:
    """A wire that reads as something other than what was sent: a sum in two buckets."""

    def init(self, like):
        return ()

    def pack(self, sent, memory, ctx):
        return {"table": torch.stack([part.sum() for part in sent.values()])}, memory

    def unpack(self, payload, like, ctx):
        return payload


@dataclass(frozen=True)
class Rough:
    """A wire that rounds to tenths and promises nothing."""

    def init(self, like):
        return ()

    def pack(self, sent, memory, ctx):
        return tree.map(lambda part: (part * 10).round() / 10, sent), memory

    def unpack(self, payload, like, ctx):
        return payload


@dataclass(frozen=True)
class Halves:
    """A view in which clients of less than full capability hold the first row of everything."""

    def cut(self, x, ctx):
        return x

    def like(self, x, ctx):
        return x

    def paste(self, dx, x, ctx):
        held = {n: torch.zeros_like(part).index_fill_(0, torch.tensor([0]), 1) for n, part in dx.items()}
        return dx, None if ctx.capability == 1 else held


@dataclass(frozen=True)
class Drawn(Halves):
    """A view in which weaker clients change one parameter, drawn by their keys, and that does not say so."""

    def like(self, x, ctx):
        at = int(random.integers(ctx.key, len(x), 1))
        held = list(x) if ctx.capability == 1 else list(x)[at : at + 1]
        return {name: x[name] for name in held}


@dataclass(frozen=True)
class Listed(Halves):
    """A view that says on what the form of its replies depends in a way that nothing can be looked up by."""

    def form(self, ctx):
        return ctx.capability, [1]


def stc(**changed):
    method = algorithms.stc(network, k=3)
    return replace(method, **{part: change(method) for part, change in changed.items()})


def linear():
    return algorithms.fedsep_linear(network, p=6, period=2, steps=1, batch_size=4)


def quantised():
    return algorithms.fedsep_quantised(network, p=6, period=2, steps=1, batch_size=4)


def built(row):
    return next(each.build() for each in CATALOGUE if name(each) == row)


REFUSED = {
    "more coordinates than there are": (
        lambda: algorithms.fedavg(network, uplink=wires.topk(99)),
        r"uplink TopK does not fit what codec Identity encodes: topk: k must be at most 27.*\(got 99\)"),
    "a table of more numbers than there are": (
        lambda: algorithms.fedavg(network, uplink=wires.count_sketch(rows=1, cells=28)),
        r"count_sketch: rows x cells must be at most 27.*\(got 1 x 28 = 28\)"),
    "a sketch without the server that opens it": (
        lambda: algorithms.fedavg(network, uplink=Table()),
        r"server Optimize does not fit uplink Table and view Whole"),
    "messages read by another wire": (
        lambda: stc(server=lambda m: replace(m.server, wire=wires.sign())),
        "codec Replay and server Announce do not fit: each has a wire of its own"),
    "messages drawn from another key": (
        lambda: stc(server=lambda m: replace(m.server, key=random.key(5))),
        "codec Replay and server Announce do not fit: each has a key of its own"),
    "messages whose error would grow": (
        lambda: stc(server=lambda m: replace(m.server, wire=wires.qsgd(1)),
                    codec=lambda m: replace(m.codec, wire=wires.qsgd(1))),
        "server Announce feeds back what QSGD leaves out, and QSGD promises no contraction.*feedback=False"),
    "messages with two memories": (
        lambda: stc(server=lambda m: replace(m.server, wire=wires.error_feedback(wires.sign())),
                    codec=lambda m: replace(m.codec, wire=wires.error_feedback(wires.sign()))),
        "downlink must be a wire without error feedback"),
    "copies that nobody sends changes to": (
        lambda: stc(server=lambda _: Optimize(SGDRule())), "server Optimize does not fit"),
    "another sketch on each side": (
        lambda: replace(algorithms.fedsep_linear(network, p=6, period=2),
                        view=algorithms.fedsep_linear(network, p=6, period=3).view),
        "codec Linear and view CatchUp do not fit: each has a calendar of its own"),
    "messages about a model that nobody sends": (
        lambda: stc(server=lambda _: linear().server),
        "server Optimize does not fit codec Replay: clients follow the server's messages, and it sends none"),
    "messages about a sketch that nobody sends": (
        lambda: replace(quantised(), server=linear().server),
        "server Optimize does not fit codec Replay: clients follow the server's messages, and it sends none"),
    "messages for clients that wait for coordinates": (
        lambda: replace(linear(), view=quantised().view), "does not fit"),
    "coordinates for clients that wait for messages": (
        lambda: replace(quantised(), view=linear().view),
        r"view CatchUp does not fit codec Replay.*missed messages, or anchor and omega \(got omegas\)"),
    "a codec that the server knows nothing of": (
        lambda: replace(algorithms.fedavg(network), codec=linear().codec), "does not fit codec Linear"),
    "a table where a model is": (
        lambda: replace(algorithms.fedavg(network), codec=algorithms.fetchsgd(network, p=5).codec),
        "does not fit codec Patched"),
    "models of several architectures for one learner": (
        lambda: replace(algorithms.fedavg(network), codec=built("feddf").codec),
        "view Whole does not fit codec Population.*not the parameters of one model"),
    "control variates averaged over the cohort": (
        lambda: replace(algorithms.fedavg(network), codec=algorithms.scaffold(network, clients=2).codec,
                        learner=algorithms.scaffold(network, clients=2).learner),
        "server Optimize does not fit codec ControlVariate: c must be the mean over all clients"),
    "x itself as tables": (
        lambda: replace(algorithms.fedsep_personal(network),
                        downlink=replace(wires.count_sketch(rows=1, cells=3), opened=False)),
        "downlink CountSketchWire cannot be read by clients"),
    "factors of x itself": (
        lambda: replace(algorithms.fedsep_lasso(network, p=6), downlink=wires.low_rank()),
        r"downlink LowRank cannot be read by clients.*fedsep\.downlinks\.followed"),
    "factors of a part of x": (
        lambda: replace(built("heterofl"), downlink=wires.low_rank()),
        "downlink LowRank remembers.*keeps no copy of it to which changes could be added"),
    "another learner than a followed codec reckons with": (
        lambda: replace(algorithms.scaffold(network, clients=2, downlink=wires.topk(3)), learner=sgd(network, lr=0.5)),
        "learner SGD and codec Followed do not fit: each has a learner of its own"),
    "control variates that would keep a downlink's errors": (
        lambda: algorithms.scaffold(network, clients=2, downlink=wires.qsgd(4)),
        "errors of a downlink that promises no contraction would stay in x"),
    "control variates followed, and averaged over the cohort": (
        lambda: replace(algorithms.scaffold(network, clients=2, downlink=wires.topk(3)),
                        server=downlinks.followed(
                            algorithms.fedavg(network).codec, Optimize(), network.init(), wires.topk(3))["server"]),
        "c must be the mean over all clients"),
    "x itself down in few bits to clients that mend a copy": (
        lambda: replace(algorithms.topk_ef(network, k=2), downlink=wires.low_rank()), "codec Patched keeps a copy"),
    "another learner than the codec reckons with": (
        lambda: replace(algorithms.scaffold(network, clients=2), learner=sgd(network, lr=0.5)),
        "learner SGD and codec ControlVariate do not fit: each has a learner of its own"),
    "a memory on a downlink that has none": (
        lambda: replace(algorithms.fedsep_personal(network), downlink=wires.error_feedback(wires.sign())),
        r"downlink ErrorFeedback remembers, and broadcast has no memory: fedsep\.downlinks\.followed"),
    "a memory on the way down of the model": (
        lambda: replace(algorithms.fedavg(network), downlink=wires.error_feedback(wires.sign())),
        r"downlink ErrorFeedback remembers, and broadcast has no memory: fedsep\.downlinks\.replayed"),
    "x itself in a few bits": (
        lambda: replace(algorithms.fedsep_personal(network), downlink=wires.qsgd(1)),
        "downlink QSGD cannot be read by clients, which do not know the shapes of x"),
    "more coordinates down than there are": (
        lambda: replace(algorithms.fedsep_personal(network), downlink=wires.topk(99)),
        "downlink TopK does not fit view Whole"),
    "a form that cannot be looked up": (
        lambda: replace(algorithms.fedavg(network), view=Listed()),
        r"view Listed: form\(ctx\) must be a number, a text or a tuple of such \(got list\)"),
    "lengths that clients choose, by a wire that knows others": (
        lambda: algorithms.flash(network, density=0.5, own_classes=False, uplink=wires.by_name(values=wires.topk(3))),
        "uplink TopK does not fit view KeptWeights: clients choose how many weights of each layer they send"),
    "replies of unlike form from clients of one capability": (
        lambda: replace(algorithms.fedavg(network), view=Drawn()),
        r"view Drawn: clients of one capability change parts of other names or shapes, and its method form\(ctx\)"),
    "a warm-up over wires with a memory": (
        lambda: algorithms.fedavg(network, uplink=wires.staged((wires.error_feedback(wires.sign()),))),
        "remembers, so it goes around Staged"),
}  # fmt: skip

WARNED = {
    "signs without error feedback": (
        lambda: algorithms.fedavg(network, uplink=wires.sign()),
        "uplink Sign without error feedback"),
    "an error that grows": (
        lambda: algorithms.fedavg(network, uplink=wires.error_feedback(wires.qsgd(1))),
        "memory can grow without bound"),
    "tables opened one by one": (
        lambda: algorithms.fedavg(network, uplink=wires.error_feedback(wires.count_sketch(rows=1, cells=9))),
        "uplink CountSketchWire opened message by message: each of 27 estimates errs by about"),
    "changes as tables": (
        lambda: algorithms.topk_ef(network, k=5, downlink=wires.count_sketch(rows=3, cells=5)),
        "downlink CountSketchWire opened message by message"),
    "x itself roughly": (
        lambda: replace(algorithms.fedsep_personal(network), downlink=Rough()),
        "downlink Rough is given x itself in every round"),
    "momentum that outlives its coordinates": (
        lambda: algorithms.fedsep_linear(network, p=6, period=3, uplink=wires.momentum_correction(wires.topk(3))),
        "uplink MomentumCorrection remembers coordinates that mean something else with every sketch, re-drawn every 3"),
    "error feedback inside another wire": (
        lambda: algorithms.fedsep_quantised(
            network, p=6, period=2, uplink=wires.clip(9.0, wires.error_feedback(wires.sign()))),
        "error_feedback, outermost on fedsep_linear or fedsep_quantised, forgets them"),
    "momentum twice": (
        lambda: algorithms.dgc(network, server=servers.sgd(momentum=0.9)),
        "momentum over a client's rounds, and the server's rule has one"),
    "cover where all is covered": (
        lambda: replace(algorithms.fedavg(network), server=Optimize(SGDRule(), coverage_mean)),
        "coverage_mean is mean here"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_pairs_that_cannot_work_are_refused(make, says):
    method = make()
    with pytest.raises(LawBroken, match=says):
        check_algorithm(method, network, shards(network))
    found = findings(method, network.init())
    assert any(each.fatal for each in found)
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(("make", "says"), WARNED.values(), ids=WARNED.keys())
def test_pairs_that_are_unwise_are_warned_of(make, says):
    [found] = findings(make(), network.init())
    assert says in found.text
    assert not found.fatal
    with pytest.warns(UserWarning, match=says):
        check_algorithm(make(), network, shards(network))


STORED = {
    "linear": lambda: algorithms.fedsep_linear(network, p=6, period=1, steps=1, batch_size=4),
    "linear over layers": lambda: algorithms.fedsep_linear(
        network, p=6, period=1, operator=operators.per_layer(network), steps=1, batch_size=4),
    "quantised": lambda: algorithms.fedsep_quantised(
        network, p=6, period=1, operator=operators.gaussian, steps=1, batch_size=4),
    "lasso": lambda: algorithms.fedsep_lasso(network, p=6, steps=1, batch_size=4),
}  # fmt: skip


@pytest.mark.parametrize("make", STORED.values(), ids=STORED.keys())
def test_the_check_factorises_nothing_and_leaves_nothing_behind(make, monkeypatch):
    plain, checked, clients = make(), make(), shards(network, 2)
    with monkeypatch.context() as patched:
        for name in ("cholesky", "qr"):
            patched.setattr(f"torch.linalg.{name}", None)
        assert findings(checked, network.init()) == []
    a, b = (play(each, network.init(), clients, everybody(2, 3)).states[-1] for each in (plain, checked))
    assert all(torch.equal(*parts) for parts in zip(tree.leaves(a.x), tree.leaves(b.x), strict=True))


CROSSED = ("fedavg", "fetchsgd", "stc", "scaffold", "fedsep_linear", "fedsep_quantised", "fedsep_lasso",
           "fedsep_implicit of a ridge", "heterofl", "zerofl", "feddf")  # fmt: skip
"""A method of each kind. Those that grow masks look at gradients first: their clients can only be played with data."""

WIRES = (
    wires.error_feedback(wires.sign()), wires.topk(2), wires.random_k(2), wires.random_k(2, unbiased=True),
    wires.sign(per="tensor"), wires.ternary(), wires.qsgd(1), wires.lloyd_max(), wires.dense(dtype="bfloat16"),
    wires.eden(), wires.clip(1.0), wires.count_sketch(rows=1, cells=2), wires.low_rank(),
    wires.momentum_correction(wires.topk(2)), wires.staged((wires.topk(3), wires.topk(2))),
)  # fmt: skip


def refused_or_played(crossing, method, clients):
    """Whether a round is played; what is not refused must be."""
    if any(found.fatal for found in findings(method, network.init())):
        return False
    try:
        play(method, network.init(), clients, everybody(2, 2), cross=lambda payload: payload)
    except Exception as error:
        raise AssertionError(f"not refused: {crossing}") from error
    return True


@pytest.mark.parametrize("row", CROSSED)
def test_a_part_of_another_method_is_refused_or_plays(row):
    method, clients, played = built(row), shards(network, 2), 0
    for other in CROSSED:
        for part in ("codec", "view", "server"):
            crossed = replace(method, **{part: getattr(built(other), part)})
            played += refused_or_played((row, part, other), crossed, clients)
    assert 3 <= played < 3 * len(CROSSED)  # its own three at least


@pytest.mark.parametrize("row", CROSSED)
def test_a_wire_is_refused_or_plays(row):
    method, clients = built(row), shards(network, 2)
    for wire in WIRES:
        for direction in ("uplink", "downlink"):
            refused_or_played((row, direction, wire), replace(method, **{direction: wire}), clients)


@pytest.mark.parametrize("uplink", [
    wires.dense(dtype="bfloat16"), wires.staged((wires.dense(), wires.dense(dtype="bfloat16"))),
    wires.by_name(values=wires.clip(9.0)),
])  # fmt: skip
def test_lengths_that_clients_choose_go_by_wires_that_leave_them(uplink):
    method = algorithms.flash(network, density=0.5, first_epochs=1, own_classes=False, uplink=uplink, lr=0.1, steps=1)
    assert [each.text for each in findings(method, network.init()) if each.fatal] == []
    assert play(method, network.init(), shards(network), everybody(2, 3)).states


def test_what_fits_after_all_is_left_alone():
    plain, uniform = algorithms.fedavg(network), Optimize(SGDRule(), coverage_mean)
    assert findings(replace(plain, view=Halves(), server=uniform), network.init()) == []
    assert findings(algorithms.fedavg(network, uplink=wires.error_feedback(wires.sign())), network.init()) == []
    assert findings(algorithms.fedavg(network, uplink=wires.count_sketch(rows=1, cells=27)), network.init()) == []
    assert findings(algorithms.fedsep_personal(network, downlink=wires.dense(dtype="bfloat16")), network.init()) == []
    g = ridge()
    made = {"inner": g, "initial": g.initial, "start": g.start, "serve": g.serve}
    assert findings(algorithms.fedsep_implicit(network, server=servers.adam(), **made), network.init()) == []
    assert findings(object(), network.init()) == []
    assert Finding("x").fatal


def test_fit_and_check_refuse_them_before_anything_runs(capsys, tmp_path):
    federation = data.digits(clients=2)
    task = tasks.classification(models.logistic(federation.shape, federation.classes))
    with pytest.raises(FedSepError, match="uplink TopK does not fit"):
        fit(algorithms.fedavg(task, uplink=wires.topk(10_000)), task, federation, rounds=1, out=tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert invoke(["check", "quickstart", "--set", "methods.fedavg.uplink={use: fedsep.wires.topk, k: 9999}"]) == 2
    assert (
        "uplink TopK does not fit what codec Identity encodes: topk: k must be at most 4810" in capsys.readouterr().err
    )
    assert invoke(["check", "quickstart", "--set", "methods.fedavg.uplink={use: fedsep.wires.sign}"]) == 0
    assert "methods.fedavg: uplink Sign without error feedback" in capsys.readouterr().err
