"""Sites over Flower's messages, in this process: same bits, resumption from the sites' disks, hostile answers."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field

import pytest
import torch
from catalogue import network, shards
from engines import toys
from engines.test_equal import METHODS
from train.toys import SETTINGS, At, FedAvg, Fleet, Sparse, Task, contents, interrupt, run

from fedsep import algorithms, tree
from fedsep.core import Expected, FedSepError
from fedsep.engines import Faults, faulty, flower, sequential
from fedsep.train import Cohort, Interrupted, Stop

pytest.importorskip("flwr", reason="Flower is not installed: pip install 'fedsep[flower]'")

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from fedsep.flower import opening
from fedsep.flower.limits import Limits
from fedsep.flower.local import LocalGrid
from fedsep.flower.post import Post
from fedsep.flower.records import from_records, serialised, to_records
from fedsep.flower.roster import Roster
from fedsep.flower.site import Site
from fedsep.flower.store import Borrowed, OnSite, wanted
from fedsep.flower.versions import mismatch
from fedsep.pack import Damaged


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_method_gives_the_bits_of_sequential(method, dtype):
    torch.set_default_dtype(dtype)
    algorithm, fleet = METHODS[method](), toys.Fleet()
    expected = toys.play(sequential(), algorithm, fleet)
    for nodes in (1, 3):
        found = toys.play(flower(nodes=nodes), algorithm, fleet)
        found["replies"] = [reply._replace(serialised=None) for reply in found["replies"]]
        assert not toys.differences(expected, found)


def without_serialised(found):
    """A letter names the server's checkpoints: one that was resumed has others."""
    rows = [json.loads(line) for line in found["ledger.jsonl"].splitlines()]
    return {**found, "ledger.jsonl": [{key: part for key, part in row.items() if key != "serialised"} for row in rows]}


def test_twenty_rounds_are_those_of_sequential_and_the_ledger_has_flowers_bytes(tmp_path):
    for algorithm in (FedAvg(), Sparse()):
        there = tmp_path / type(algorithm).__name__
        expected = contents(run(algorithm, there / "a", rounds=20).folder)
        found = contents(run(algorithm, there / "b", rounds=20, engine=flower(folder=there / "sites")).folder)
        assert without_serialised(found) == without_serialised(expected)
        rows = [json.loads(line) for line in found["ledger.jsonl"].splitlines()]
        assert all(row["serialised"] > row["payload"] for row in rows)
        assert all(row["serialised"] is None for row in map(json.loads, expected["ledger.jsonl"].splitlines()))


@pytest.mark.parametrize("disk", [True, False])
@pytest.mark.parametrize("cuts", [(1,), (3, 4, 7)])
def test_a_server_that_was_stopped_goes_on_with_what_the_sites_remember(tmp_path, disk, cuts):
    def engine(name):
        inner = flower(nodes=3, folder=tmp_path / name if disk else None)
        return faulty(inner, Faults(drop=0.1, crash=0.1, late=0.1, stale=0.1, duplicate=0.1))

    whole = without_serialised(contents(run(Sparse(), tmp_path / "a", engine=engine("whole")).folder))
    for at in cuts:
        with pytest.raises(Interrupted):
            run(Sparse(), tmp_path / "b", engine=engine("cut"), resume=True, watch=At(at, interrupt))
    found = contents(run(Sparse(), tmp_path / "b", engine=engine("cut"), resume=True).folder)
    assert without_serialised(found) == whole


class Killed(Exception):
    pass


def test_a_server_that_was_killed_after_its_checkpoint_goes_on_with_older_memories(tmp_path, monkeypatch):
    whole = without_serialised(contents(run(Sparse(), tmp_path / "a", engine=flower(folder=tmp_path / "w")).folder))

    def kill():
        monkeypatch.setattr("fedsep.train._close", None)  # nothing is saved on the way out
        raise Killed

    with pytest.raises(Killed):
        run(Sparse(), tmp_path / "b", engine=flower(folder=tmp_path / "cut"), watch=At(7, kill))
    monkeypatch.undo()
    assert json.loads((tmp_path / "b/run/seed0/checkpoint/round-00000006/checkpoint.json").read_text())
    engine = flower(folder=tmp_path / "cut")
    found = contents(run(Sparse(), tmp_path / "b", engine=engine, resume=True).folder)
    assert without_serialised(found) == whole


def test_a_site_keeps_what_may_still_be_asked_for():
    assert wanted([1, 3, 5, 8, 9], 8, [4, 6]) == {8, 3, 5}  # 9 was lost
    assert wanted([0], 0, [0]) == {0}
    assert wanted([2, 4], -1, []) == {-1}


def test_a_site_whose_disk_was_lost_is_sent_everything(tmp_path):
    class Wiping(FedAvg):
        def broadcast(self, state, ctx):
            if ctx.round == 3:
                for file in tmp_path.glob("site0/*/*.safetensors"):
                    file.unlink()
            return super().broadcast(state, ctx)

    rows = ledger(run(Wiping(), tmp_path / "out", engine=flower(folder=tmp_path), cohort=SETTINGS["cohort"]).folder)
    failed = [row for row in rows if "failure" in row]
    assert failed
    assert {row["failure"]["stage"] for row in failed} == {"digest"}
    assert len({row["client"] for row in failed}) == len(failed)  # each once: then it begins anew


def ledger(folder):
    return [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]


@dataclass
class Meddling(LocalGrid):
    """A grid between the server and its sites that something is wrong with."""

    sites: dict
    reply: object
    count: dict = field(default_factory=dict)
    shelf: list = field(default_factory=list)

    def __post_init__(self):
        LocalGrid.__init__(self, self.sites)

    def pull_messages(self, numbers):
        if self.shelf and time.monotonic() > self.shelf[0][0]:
            return [self.shelf.pop(0)[1]]
        return [changed for message in super().pull_messages(numbers) for changed in self._changed(message)]

    def _changed(self, message):
        node = message.metadata.src_node_id
        self.count[node] = self.count.get(node, -1) + 1  # 0: hello, 1: the first round
        changed = self.reply(message, self.count[node])
        if isinstance(changed, float):
            self.shelf.append((time.monotonic() + changed, message))
            return []
        return [changed]


def meddled(monkeypatch, reply, algorithm=None, **changes):
    monkeypatch.setattr(opening, "LocalGrid", lambda sites: Meddling(sites, reply))
    return run(
        algorithm or Strict(), changes.pop("out"), engine=flower(timeout=0.2, wait=0.5), cohort=Cohort(), **changes
    )


class Strict(FedAvg):
    """Says what it expects of replies."""

    def expected(self, state, ctx):
        return Expected(state.x)


def spoiled(letter):
    """An answer with other contents from node 2 in its second round."""

    def reply(message, count):
        if message.metadata.src_node_id != 2 or count != 2:
            return message
        parts = from_records(message.content)
        return with_content(message, letter(parts))

    return reply


def with_content(message, letter):
    message.content = letter if isinstance(letter, RecordDict) else to_records(letter)
    return message


def each(change):
    return lambda letter: {"clients": {client: change(dict(part)) for client, part in letter["clients"].items()}}


HOSTILE = {
    "NaN": (each(lambda part: part | {"payload": tree.scale(part["payload"], float("nan"))}), "not finite"),
    "another tree": (each(lambda part: part | {"payload": [part["payload"]]}), "cannot be read|is a list"),
    "no numbers": (each(lambda part: part | {"info": {"loss": "small"}}), "loss is a str"),
    "info is a list": (each(lambda part: part | {"info": [1]}), "sent nothing"),
    "a number that is no float": (each(lambda part: part | {"info": {"steps": 10**400}}), "sent nothing"),
    "nothing": (lambda letter: {"clients": {}}, "sent nothing"),
    "a long story": (lambda letter: {"problem": "x" * 10**6}, "x{2000}$"),
    "a number": (lambda letter: 7, "not of the form"),
    "no letter": (lambda letter: RecordDict({"letter": ConfigRecord({"tree": "[]"})}), "cannot be read"),
    "pickle": (lambda letter: arrays(Array("float32", (2,), "pickle", b"cos\nsystem\n")), "cannot be read"),
    "terabytes": (
        lambda letter: arrays(Array("float32", (1 << 42,), "fedsep.tensor.v1", b"1234")),
        "do not make the shape",
    ),
    "negative": (lambda letter: arrays(Array("float32", (-1, -4), "fedsep.tensor.v1", b"1" * 16)), "axes"),
    "deep": (
        lambda letter: RecordDict({"tensors": ArrayRecord({}), "letter": ConfigRecord({"tree": "[" * 10**5})}),
        "read",
    ),
}


def arrays(*parts):
    record = ArrayRecord({str(i): part for i, part in enumerate(parts)})
    return RecordDict({"tensors": record, "letter": ConfigRecord({"tree": '["tensor",0,"cpu"]'})})


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_answer_is_a_failure_and_the_others_go_on(monkeypatch, tmp_path, name):
    change, reason = HOSTILE[name]
    rows = ledger(meddled(monkeypatch, spoiled(change), rounds=4, out=tmp_path).folder)
    failed = [row for row in rows if "failure" in row]
    assert {row["round"] for row in failed} == {2}
    assert {row["client"] for row in failed} == {3, 4, 5, 6}
    for row in failed:
        assert re.search(reason, row["failure"]["reason"]), row["failure"]


def test_a_site_that_is_too_late_has_failed_and_its_answer_is_counted_when_it_comes(monkeypatch, tmp_path):
    def reply(message, count):
        return 0.3 if message.metadata.src_node_id == 2 and count == 2 else message

    wait = At(2, lambda: time.sleep(0.15))
    run = meddled(monkeypatch, reply, rounds=4, out=tmp_path, stop=Stop(min_replies=2), watch=wait)
    failed = [row for row in ledger(run.folder) if "failure" in row]
    told = [(row["round"], row["client"], row["direction"], row["failure"]["stage"]) for row in failed]
    assert told == [*((2, c, "down", "timeout") for c in (3, 4, 5, 6)), *((3, c, "up", "late") for c in (3, 4, 5, 6))]
    assert "no answer within 0.2 s" in failed[0]["failure"]["reason"]
    assert all(row["payload"] == 40 for row in failed)  # five numbers; each way they are counted once
    assert [row["replies"] for row in run.metrics] == [7, 3, 7, 7]


def test_a_site_that_is_gone_is_said_to_be(monkeypatch, tmp_path, caplog):
    class Leaving(LocalGrid):
        def get_node_ids(self):
            self.asked = getattr(self, "asked", 0) + 1
            return [1, 2] if self.asked < 4 else [1]

    monkeypatch.setattr(opening, "LocalGrid", Leaving)
    found = run(FedAvg(), tmp_path, rounds=5, engine=flower(wait=0.2), cohort=Cohort())
    assert [row["replies"] for row in found.metrics] == [7, 7, 3, 3, 3]
    reasons = {row["failure"]["reason"] for row in ledger(found.folder) if "failure" in row}
    assert reasons == {"no site that is connected has this client"}
    assert "site site1 does not have the final model: it is not connected; --resume sends it again" in caplog.text


def test_the_final_model_waits_for_a_site_that_is_away_when_the_run_ends(monkeypatch, tmp_path, caplog):
    class Away(LocalGrid):
        def get_node_ids(self):
            self.asked = getattr(self, "asked", 0) + 1
            return [1] if 3 < self.asked < 9 else [1, 2]

    monkeypatch.setattr(opening, "LocalGrid", Away)
    caplog.set_level("INFO", "fedsep")
    run(FedAvg(), tmp_path, rounds=3, engine=flower(wait=30), cohort=Cohort())
    said = caplog.text
    order = [said.index(f"{text} the final model") for text in ("site0 has", "site1 has")]
    assert order[0] < said.index("waits 30 s at most for the sites site1") < order[1]


def test_a_site_that_cannot_keep_the_final_model_is_named_with_the_reason(monkeypatch, tmp_path, caplog):
    def reply(message, count):
        late = count > 2 and message.metadata.src_node_id == 2 and "facts" not in from_records(message.content)
        return with_content(message, {"problem": "the disk is full"}) if late else message

    found = meddled(monkeypatch, reply, rounds=2, out=tmp_path)
    assert found.summary["status"] == "done"
    assert "site site1 does not have the final model: the disk is full" in caplog.text
    assert "site site0 does not" not in caplog.text


def test_sites_that_all_failed_are_waited_for_when_they_introduce_themselves_again(monkeypatch, tmp_path):
    def reply(message, count):
        if count == 2:  # the second round
            return with_content(message, {"problem": "no"})
        return 0.1 if count == 3 else message  # the second hello

    found = meddled(monkeypatch, reply, rounds=4, out=tmp_path, stop=Stop(patience=2))
    assert [row["replies"] for row in found.metrics] == [7, 0, 7, 7]


def test_a_round_waits_for_a_site_if_none_is_left(monkeypatch, tmp_path):
    class Absent(LocalGrid):
        def get_node_ids(self):
            self.asked = getattr(self, "asked", 0) + 1
            return [] if self.asked in (4, 5, 6) else [1, 2]

    monkeypatch.setattr(opening, "LocalGrid", Absent)
    found = run(FedAvg(), tmp_path, rounds=4, engine=flower(wait=5), cohort=Cohort())
    assert [row["replies"] for row in found.metrics] == [7, 7, 7, 7]


def test_a_node_that_was_refused_is_asked_again_and_logged_once(caplog, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("fedsep.flower.roster.time.monotonic", lambda: clock[0])
    task, fleet, there = Task(), Fleet(), [1, 2]
    sites = {n: Site(f"s{n}", FedAvg(), task, fleet, (0,), OnSite(None)) for n in there}
    grid = LocalGrid(sites)
    monkeypatch.setattr(grid, "get_node_ids", lambda: there)
    roster = Roster(Post(grid, 99.0), 1, {})
    for clock[0] in (0.0, 10.0, 40.0, 80.0):
        roster.update()
    assert (list(roster.members), list(roster.refused)) == ([1], [2])
    assert caplog.text.count("client 0 is at the site s1 already") == 1
    there.remove(1)  # it was the same site's, before it was started again
    for clock[0] in (90.0, 120.0):
        roster.update()
    assert (list(roster.members), list(roster.refused)) == ([2], [])


@pytest.mark.parametrize("spoil", [{"name": None}, {"name": 7}, {"samples": {0: "many"}}, {"samples": [3]}])
def test_a_node_that_does_not_say_who_it_is_takes_no_part(monkeypatch, caplog, tmp_path, spoil):
    def reply(message, count):
        if count or message.metadata.src_node_id != 2:
            return message
        return with_content(message, {**from_records(message.content), **spoil})

    found = meddled(monkeypatch, reply, rounds=2, out=tmp_path, stop=Stop(min_replies=2))
    assert [row["replies"] for row in found.metrics] == [3, 3]
    assert "node 2 does not take part: it does not say" in caplog.text


def test_without_a_site_nothing_runs(monkeypatch):
    monkeypatch.setattr("fedsep.flower.site.mismatch", lambda there, here: "it has fedsep 0.0.9, not 0.1.0")
    with pytest.raises(FedSepError, match=r"no site takes part after 0 s \(node 1: the server cannot work .* 0\.0\.9"):
        run(FedAvg(), engine=flower(wait=0))


def test_two_sites_with_one_client_are_not_both_taken(caplog):
    task, fleet = Task(), Fleet()
    sites = {n: Site(f"s{n}", FedAvg(), task, fleet, (0, n), OnSite(None)) for n in (1, 2)}
    roster = Roster(Post(LocalGrid(sites), 1.0), 3, {})
    roster.gather()
    assert list(roster.members) == [1]
    assert "client 0 is at the site s1 already" in roster.refused[2]
    assert roster.absent() == [2]
    assert "clients without a site so far: client 2" in caplog.text


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"letters": 2}, "form 2, not 1"),
        ({"fedsep": "0.0.9"}, "fedsep 0.0.9, not"),
        ({"recipes": "0"}, "another state of the same fedsep"),
        ({"flower": "1.39.0"}, "before and from 1.40 on have different network transports"),
        ({"flower": "1.40.0", "torch": "2.4"}, ""),
    ],
)
def test_versions_that_cannot_work_together_are_told_apart(told, why):
    here = {"letters": 1, "recipes": "1", "fedsep": "0.1.0", "flower": "1.41.0", "torch": "2.13.0"}
    assert bool(why) == bool(mismatch(here | told, here))
    assert why in mismatch(here | told, here)


@pytest.mark.parametrize(
    ("limits", "reason"), [(Limits(steps=2), "gives 2 local steps"), (Limits(seconds=0.05), "gives 0.05 s")]
)
def test_a_site_gives_no_more_than_its_limits(limits, reason):
    method = algorithms.fedavg(network, steps=3 if limits.steps else 10**6, batch_size=4)
    site = Site("a", method, network, Shards(), (0,), Borrowed(lambda client, seen: None), limits)
    seat = [0, 1.0, 5, -1, None, None, method.broadcast(method.init(network.init()), None)]
    answer = site.answer({"kind": "round", "round": 0, "checkpoints": [], "seats": [seat]})
    failure = answer["clients"][0]["failure"]
    assert failure["stage"] == "limits"
    assert reason in failure["reason"]
    assert "traceback" not in failure or not failure["traceback"]


class Shards:
    def shard(self, client):
        return shards(network, 1)[0]


def test_a_letter_comes_back_as_it_was():
    letter = {"a": [1, 2.5, None, "x", float("inf")], 3: (toys.odd_tensors()["of torch.bfloat16"],)}
    found = from_records(to_records(letter))
    assert not toys.differences(letter, found)
    assert serialised(to_records(letter)) > tree.nbytes(letter[3])


@pytest.mark.parametrize("content", [RecordDict(), RecordDict({"tensors": ConfigRecord(), "letter": ConfigRecord()})])
def test_what_is_no_letter_is_refused(content):
    with pytest.raises(Damaged, match="not a letter"):
        from_records(content)
