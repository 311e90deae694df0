"""Law: where the server sends changes, a client that was away decodes what it would have decoded had it never been,
for the bytes of what it missed or of everything, whichever is fewer; and a copy that is wrong is found and replaced.
"""

import json
from dataclasses import dataclass

import pytest
import torch
from catalogue import Tiny, network, shards
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsep import algorithms, random, tree
from fedsep.codecs import Patched, Plain, Replay, Sketched
from fedsep.core import ASTRAY, FedSepError
from fedsep.digest import check_digest, copy_digest
from fedsep.engines import sequential, workers
from fedsep.fedsep import FedSep
from fedsep.learners import sgd
from fedsep.operators import gaussian
from fedsep.servers import Announce, Optimize, Track
from fedsep.servers import sgd as server_sgd
from fedsep.store import InMemory
from fedsep.testing import algorithms as laws
from fedsep.testing import codecs, play
from fedsep.testing.draws import context
from fedsep.testing.play import everybody
from fedsep.train import fit
from fedsep.views import Calendar, Changes, Missed
from fedsep.wires import Contraction, Exact, dense
from fedsep.wires import topk as topk_wire

CLIENTS, ROUNDS, KEY = 3, 10, random.key(7)
attendances = st.lists(
    st.dictionaries(st.integers(0, CLIENTS - 1), st.booleans(), max_size=CLIENTS), min_size=ROUNDS, max_size=ROUNDS
)


@dataclass(frozen=True)
class Half:
    """A wire that says half of what it is told, so that errors add up."""

    def init(self, like):
        return ()

    def pack(self, sent, memory, ctx):
        return tree.map(lambda part: (part / 2).to(torch.float32), sent), memory

    def unpack(self, payload, like, ctx):
        return tree.map(lambda part, model: part.to(model.dtype), payload, like)

    def promise(self, size):
        return Contraction(0.75)


def replay(space, rate=1.0, wire=Half(), task: Tiny = network):
    return FedSep(
        sgd(task, lr=0.1, steps=1, batch_size=4),
        codec=Replay(space, wire, KEY),
        view=Missed(space),
        server=Announce(Optimize({"omega": server_sgd(lr=rate)}), wire, KEY),
    )


def sketched(period, p=6):
    return Sketched(network.init(), p, Calendar(period), KEY, gaussian)


def changes(task: Tiny = network):
    rule = Track(Optimize({"model": server_sgd()}))
    return FedSep(
        sgd(task, lr=0.1, steps=1, batch_size=4), codec=Patched(task.init()), view=Changes(), server=rule, uplink=Few()
    )


@dataclass(frozen=True)
class Few:
    """Sends the first three coordinates of the first tensor."""

    def init(self, like):
        return ()

    def pack(self, sent, memory, ctx):
        return {"first": sent[min(sent)].reshape(-1)[:3].clone()}, memory

    def unpack(self, payload, like, ctx):
        read = tree.zeros_like(like)
        read[min(like)].view(-1)[:3] = payload["first"]
        return read


METHODS = {
    "messages about the model": lambda: replay(Plain(network.init())),
    "messages about a fixed sketch": lambda: replay(sketched(None), 2.0),
    "messages about a sketch drawn anew": lambda: replay(sketched(3), 2.0),
    "messages about a sketch drawn anew every round": lambda: replay(sketched(1), 2.0),
    "messages without an error": lambda: replay(sketched(2), 2.0, dense()),
    "changed coordinates": changes,
    "messages about what a LASSO decodes": lambda: algorithms.fedsep_lasso(
        network, p=6, beta=0.3, steps=1, batch_size=4, downlink=Half()),
}  # fmt: skip


@pytest.mark.parametrize("make", METHODS.values(), ids=METHODS.keys())
def test_all_laws_of_methods_hold(make):
    laws.check_algorithm(make(), network, shards(network, 2))


@pytest.mark.parametrize("make", METHODS.values(), ids=METHODS.keys())
@settings(max_examples=6)
@given(attendance=attendances)
def test_every_client_decodes_the_servers_model_bit_for_bit(make, attendance):
    server, clients, parts = make(), make(), shards(network, CLIENTS)
    played = play(server, network.init(), parts, attendance, clients=clients)
    for state, seats in zip(played.states, played.seats, strict=False):
        served = server.model(state)
        for client, seat in seats.items():
            decoded, _ = clients.local_models(seat.sent, seat.before, parts[client], seat.ctx)
            assert all(torch.equal(decoded[name], served[name]) for name in served), (seat.ctx, list(seat.sent))
            assert tree.nbytes(seat.sent) <= 8 * network.d + 8 * 6


@dataclass(frozen=True)
class Same:
    """A wire that sends what it is given, and is no ``Dense``."""

    def init(self, like):
        return ()

    def pack(self, sent, memory, ctx):
        return sent, memory

    def unpack(self, payload, like, ctx):
        return payload

    def promise(self, size):
        return Exact()


FOLLOWED = {
    "LASSO": lambda downlink: algorithms.fedsep_lasso(
        network, p=6, beta=0.3, warm_start=True, steps=1, batch_size=4, downlink=downlink),
    "SCAFFOLD": lambda downlink: algorithms.scaffold(
        network, clients=CLIENTS, server=server_sgd(momentum=0.5), steps=1, batch_size=4, downlink=downlink),
    "personal": lambda downlink: algorithms.fedsep_personal(
        network, warm_start=True, steps=1, batch_size=4, downlink=downlink),
}  # fmt: skip


@pytest.mark.parametrize("make", FOLLOWED.values(), ids=FOLLOWED.keys())
@settings(max_examples=6)
@given(attendance=attendances)
def test_changes_in_full_are_as_good_as_x_itself(make, attendance):
    plain, changed = (
        play(make(downlink), network.init(), shards(network, CLIENTS), attendance).states[-1]
        for downlink in (None, Same())
    )
    told = changed.x["omega"]
    for a, b in zip(tree.leaves(plain.x), tree.leaves(told), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("make", FOLLOWED.values(), ids=FOLLOWED.keys())
def test_a_downlink_of_few_coordinates_costs_what_they_cost(make):
    algorithm, k = make(topk_wire(2)), 2
    states = play(algorithm, network.init(), shards(network, CLIENTS), everybody(CLIENTS, 4)).states
    assert tree.nbytes(sent_to(states[0], algorithm, -1, 0)) == 0
    assert tree.nbytes(sent_to(states[3], algorithm, 2, 3)) == k * (4 + 8)
    assert tree.nbytes(sent_to(states[3], algorithm, 1, 3)) == 2 * k * (4 + 8)


def test_who_follows_control_variates_still_knows_how_many_there_are():
    assert FOLLOWED["SCAFFOLD"](Same()).clients == FOLLOWED["SCAFFOLD"](None).clients == CLIENTS


class Told:
    """A view without messages: the client is sent x as the server has it."""

    def cut(self, x, ctx):
        return {"anchor": x["anchor"], "omega": x["omega"]}

    def paste(self, dx, x, ctx):
        return dx, None


@pytest.mark.parametrize("space", [Plain(network.init()), sketched(1), sketched(3), sketched(None)])
def test_encode_is_the_transposed_jacobian_of_decode(space):
    at = codecs.bench(replay(space).codec, network.init(), shards(network, 1)[0], view=Told())
    codecs.adjoint(at, 1e-7)
    codecs.columns(at, 1e-6)
    codecs.remark_1(at, network, 1e-6)
    codecs.linear(at, 1e-12)


def sent_to(state, algorithm, seen, round):
    return algorithm.broadcast(state, context(round, seen=seen))


def test_messages_are_sent_until_everything_is_smaller():
    algorithm, rounds, p = replay(sketched(4, p=11), 2.0), 12, 11
    state = play(algorithm, network.init(), shards(network, 1), everybody(1, rounds)).states[-1]
    kept = len(state.x["history"])
    assert kept == (8 * network.d + 8 * p) // (4 * p)
    for seen in range(rounds):
        sent = sent_to(state, algorithm, seen, rounds)
        messages = 4 * p * (rounds - seen)
        assert tree.nbytes(sent) == min(messages, 8 * network.d), seen  # a period begins with round 12: no omega


@pytest.mark.parametrize("space", [Plain(network.init()), sketched(None)], ids=["model", "sketch"])
@settings(max_examples=6)
@given(attendance=attendances)
def test_what_the_downlink_has_not_said_yet_stays_with_the_server_under_drops(space, attendance):
    """What was said and what is owed is the sum of what accepted replies said, whoever was away or dropped."""
    played = play(replay(space), network.init(), shards(network, CLIENTS), attendance)
    said = moved = tree.zeros_like(space.origin())
    for state, seats in zip(played.states[1:], played.seats, strict=True):
        accepted = [seat.reply["omega"] for seat in seats.values() if seat.accepted]
        for reply in accepted:
            moved = tree.add(moved, reply, 1 / len(accepted))
        assert len(state.x["history"][-1]) == bool(accepted)
        for message in state.x["history"][-1]:
            said = tree.add(said, tree.map(lambda part: part.to(torch.float64), message))
        owed = tree.sub(state.x["omega"], state.x["sent"])
        assert (float(tree.norm(owed)) > 0) is (float(tree.norm(moved)) > 0)
        assert float(tree.norm(tree.sub(tree.add(said, owed), moved))) < 1e-12


def test_what_the_downlink_has_not_said_yet_it_says_later():
    """Conservation: what was said plus what is still to be said is what the server moved."""
    algorithm, space = replay(Plain(network.init())), Plain(network.init())
    states = play(algorithm, network.init(), shards(network, 2), everybody(2, 5)).states
    said = tree.zeros_like(space.origin())
    for state in states[1:]:
        (message,) = state.x["history"][-1]
        said = tree.add(said, tree.map(lambda part: part.to(torch.float64), message))
        moved = tree.sub(state.x["omega"], space.origin())
        owed = tree.sub(state.x["omega"], state.x["sent"])
        assert float(tree.norm(owed)) > 1e-3
        assert float(tree.norm(tree.sub(tree.add(said, owed), moved))) < 1e-12
    late = tree.sub(states[-1].x["omega"], states[-2].x["sent"])  # half of which the last message says
    assert float(tree.norm(tree.sub(tree.scale(message, 2.0), late))) < 1e-6


def test_a_coordinate_that_changed_is_sent_once_to_whoever_missed_it():
    algorithm = changes()
    state = play(algorithm, network.init(), shards(network, 1), everybody(1, 6)).states[-1]
    for seen in (-1, 0, 3, 5):
        sent = sent_to(state, algorithm, seen, 6)
        assert sent["index"].tolist() == [0, 1, 2]
        assert tree.nbytes(sent) == 3 * (4 + 8)
    assert tree.nbytes(sent_to(state, algorithm, 6, 7)) == 0


def test_a_client_that_went_astray_is_sent_everything():
    for make in METHODS.values():
        algorithm = make()
        state = play(algorithm, network.init(), shards(network, 1), everybody(1, 4)).states[-1]
        sent = sent_to(state, algorithm, ASTRAY, 4)
        assert "missed" not in sent
        assert "index" not in sent
        ctx = context(4, seen=ASTRAY)
        decoded = algorithm.local_models(sent, algorithm.enroll(sent, ctx), shards(network, 1)[0], ctx)[0]
        assert all(torch.equal(decoded[name], part) for name, part in algorithm.model(state).items())


def linear():
    return algorithms.fedsep_linear(network, p=6, period=3, steps=1, batch_size=4)


@dataclass(frozen=True)
class Fleet:
    """The catalogue's clients as a fleet."""

    clients: int = CLIENTS
    name: str = "tiny"
    partition: object = None
    validation: object = None

    def shard(self, client):
        return shards(network, CLIENTS)[client]

    @property
    def test(self):
        return self.shard(0).train


def spoil_copy(memory):
    """Another model where the client's copy of it was."""
    codec = memory.codec
    return memory._replace(codec={**codec, "anchor": tree.map(lambda part: part + 1.0, codec["anchor"])})


def spoil_history(memory):
    """The copy of a client that heard other messages."""
    return memory._replace(codec={**memory.codec, "digest": memory.codec["digest"] + 1})


def spoilt(monkeypatch, out, make, spoil, engine):
    """A run in which client 1's memory is spoiled once, before round 4: rounds with a failure, and its downloads."""
    recall, spoiled = InMemory.recall, []

    def recalled(store, client, seen):
        memory = recall(store, client, seen)
        if client == 1 and seen == 3 and not spoiled:
            spoiled.append(client)
            return spoil(memory)
        return memory

    monkeypatch.setattr(InMemory, "recall", recalled)
    run = fit(make(), network, Fleet(), rounds=9, engine=engine, out=out)
    assert spoiled == [1]
    ledger = [json.loads(line) for line in (run.folder / "ledger.jsonl").read_text().splitlines()]
    down = [row for row in ledger if row["client"] == 1 and row["direction"] == "down"]
    return [row["round"] - 1 for row in run.metrics if row["failures"]], down


@pytest.mark.parametrize("engine", [sequential(), workers(processes=2)], ids=["sequential", "workers"])
@pytest.mark.parametrize("spoil", [spoil_copy, spoil_history])
@pytest.mark.parametrize("make", [lambda: replay(sketched(3), 2.0), linear], ids=["messages", "coordinates"])
def test_a_wrong_copy_is_found_at_the_next_fold_and_replaced(monkeypatch, tmp_path, engine, spoil, make):
    """In a period of 3, the fold before round 6 shows another anchor."""
    failed, down = spoilt(monkeypatch, tmp_path, make, spoil, engine)
    found = 6 if spoil is spoil_copy else 4  # other messages are known by their hash at once
    news = "missed" if make is not linear else "omegas"
    assert failed == [found]
    assert down[found]["failure"]["stage"] == "digest"
    assert [set(row["parts"]) for row in down[found - 1 : found + 3]] == [
        {news}, {news}, {"anchor", "omega"}, {news}
    ]  # fmt: skip


def spoil_first(memory):
    """A copy of the model in which one coordinate that was sent is off by a little."""
    first = min(memory.codec)
    part = memory.codec[first].clone()
    part.view(-1)[1] += 1e-6
    return memory._replace(codec={**memory.codec, first: part})


def spoil_last(memory):
    """A copy of the model in which a coordinate that was never sent is not what it was."""
    last = max(memory.codec)
    part = memory.codec[last].clone()
    part.view(-1)[-1] += 1e-6
    return memory._replace(codec={**memory.codec, last: part})


def topk():
    return algorithms.topk_ef(network, k=2, steps=1, batch_size=4)


@pytest.mark.parametrize("engine", [sequential(), workers(processes=2)], ids=["sequential", "workers"])
@pytest.mark.parametrize(("make", "spoil"), [(changes, spoil_last), (topk, spoil_last), (topk, spoil_first)])
def test_a_wrong_copy_of_the_model_is_found_at_once_and_replaced(monkeypatch, tmp_path, engine, make, spoil):
    failed, down = spoilt(monkeypatch, tmp_path, make, spoil, engine)
    assert failed == [4]
    assert down[4]["failure"]["stage"] == "digest"
    assert [set(row["parts"]) for row in down[3:7]] == [
        {"index", "value"}, {"index", "value"}, {"model"}, {"index", "value"}
    ]  # fmt: skip


def test_copies_that_differ_in_last_bits_of_the_start_agree():
    """Two devices may draw the initial model with other last bits: only what was sent must be equal bit for bit."""
    start = network.init()
    other = tree.map(lambda part: part * (1 + 1e-12), start)
    name = min(start)

    def sent(model, value):
        part = model[name].clone()
        part.view(-1)[0] = value
        return {**model, name: part}

    def agree(ours, theirs):
        ctx = context(1)._replace(digest=int(copy_digest(sent(start, ours), start)))
        check_digest(copy_digest(sent(other, theirs), other), ctx)

    agree(0.25, 0.25)
    with pytest.raises(FedSepError, match="another history of messages"):
        agree(0.25, 0.25 + 1e-9)
    far = tree.map(lambda part: part + 1.0, start)
    ctx = context(1)._replace(digest=int(copy_digest(start, start)))
    with pytest.raises(FedSepError, match="numbers drifted apart"):
        check_digest(copy_digest(far, far), ctx)
