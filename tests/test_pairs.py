"""Parts that do not fit one another are named before anything runs; what is only unwise is warned of."""

from dataclasses import dataclass, replace

import pytest
import torch
from catalogue import CATALOGUE, name, network, ridge, shards

from fedsep import algorithms, data, models, random, servers, tasks, tree, wires
from fedsep.cli import invoke
from fedsep.core import FedSepError
from fedsep.learners import sgd
from fedsep.pairs import Finding, findings
from fedsep.servers import Optimize, coverage_mean
from fedsep.servers.sgd import SGDRule
from fedsep.testing import LawBroken, check_algorithm
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


def stc(**changed):
    method = algorithms.stc(network, k=3)
    return replace(method, **{part: change(method) for part, change in changed.items()})


REFUSED = {
    "more coordinates than there are": (
        lambda: algorithms.fedavg(network, uplink=wires.topk(99)),
        r"uplink TopK does not fit what codec Identity encodes: topk: k must be at most 27.*\(got 99\)"),
    "a sketch without the server that opens it": (
        lambda: algorithms.fedavg(network, uplink=Table()),
        r"server Optimize does not fit uplink Table and view Whole"),
    "messages read by another wire": (
        lambda: stc(server=lambda m: replace(m.server, wire=wires.sign())),
        "codec Replay and server Announce do not fit: each has a wire of its own"),
    "messages drawn from another key": (
        lambda: stc(server=lambda m: replace(m.server, key=random.key(5))),
        "codec Replay and server Announce do not fit: each has a key of its own"),
    "copies that nobody sends changes to": (
        lambda: stc(server=lambda _: Optimize(SGDRule())), "server Optimize does not fit"),
    "another sketch on each side": (
        lambda: replace(algorithms.fedsep_linear(network, p=6, period=2),
                        view=algorithms.fedsep_linear(network, p=6, period=3).view),
        "codec Linear and view CatchUp do not fit: each has a calendar of its own"),
    "another learner than the codec reckons with": (
        lambda: replace(algorithms.scaffold(network, clients=2), learner=sgd(network, lr=0.5)),
        "learner SGD and codec ControlVariate do not fit: each has a learner of its own"),
    "a memory on a downlink that has none": (
        lambda: algorithms.fedsep_personal(network, downlink=wires.error_feedback(wires.sign())),
        r"downlink ErrorFeedback remembers, and broadcast has no memory: fedsep\.downlinks\.replayed"),
    "x itself in a few bits": (
        lambda: algorithms.fedsep_personal(network, downlink=wires.qsgd(1)),
        "downlink QSGD cannot be read by clients, which do not know the shapes of x"),
    "more coordinates down than there are": (
        lambda: algorithms.fedsep_personal(network, downlink=wires.topk(99)), "downlink TopK does not fit view Whole"),
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
    "x itself roughly": (
        lambda: algorithms.fedsep_personal(network, downlink=Rough()),
        "downlink Rough is given x itself in every round"),
    "cover where all is covered": (
        lambda: replace(algorithms.fedavg(network), server=Optimize(SGDRule(), coverage_mean)),
        "coverage_mean is mean here"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_pairs_that_cannot_work_are_refused(make, says):
    method = make()
    with pytest.raises(LawBroken, match=says):
        check_algorithm(method, network, shards(network))
    assert any(found.fatal for found in findings(method, network.init()))


@pytest.mark.parametrize(("make", "says"), WARNED.values(), ids=WARNED.keys())
def test_pairs_that_are_unwise_are_warned_of(make, says):
    [found] = findings(make(), network.init())
    assert says in found.text
    assert not found.fatal
    with pytest.warns(UserWarning, match=says):
        check_algorithm(make(), network, shards(network))


def test_what_fits_after_all_is_left_alone():
    plain, uniform = algorithms.fedavg(network), Optimize(SGDRule(), coverage_mean)
    assert findings(replace(plain, view=Halves(), server=uniform), network.init()) == []
    assert findings(algorithms.fedavg(network, uplink=wires.error_feedback(wires.sign())), network.init()) == []
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
