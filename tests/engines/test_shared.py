"""Shared memory: what is written is read, once for all who are sent it, and no more is held than is under way."""

from __future__ import annotations

import pytest
import torch
from engines.toys import bits, differences, odd_tensors

from fedsep.engines import work
from fedsep.engines.arena import Arena
from fedsep.engines.letters import INLINE_BYTES
from fedsep.engines.lost import Lost
from fedsep.engines.mail import Inbox, Outbox, Reader
from fedsep.engines.process import Answer
from fedsep.engines.status import IDLE, Status
from fedsep.engines.store import Store
from fedsep.engines.work import Work
from fedsep.settle import ALIGNMENT, settled


@pytest.fixture
def arena():
    made = Arena()
    yield made
    made.close()


def small_odd_tensors():
    """Those that travel inside the letter."""
    x = torch.arange(12.0).reshape(3, 4)
    kinds = [x.T, x[:, 1:3], x[0].expand(2, 4), torch.complex(x, -x).conj(), x[1:], x.clone().requires_grad_() * 2]
    assert max(kind.nbytes for kind in kinds) <= INLINE_BYTES
    return kinds


def test_letters_keep_values_layouts_and_everything_else(arena):
    value = {
        "odd": odd_tensors(),
        "small": small_odd_tensors(),
        "rest": [None, 1, 2.5, "text", (True, b"x")],
        "large": torch.randn(3000),
    }
    dense = settled(value)
    store, inbox, answers = Store(arena), Inbox(arena), Arena()
    outbox, reader = Outbox(answers, Inbox(arena)), Reader(store)
    *letter, _ = store.write([value, 1, value])
    assert not differences([dense, 1, dense], list(inbox.read(*letter)))
    answer = outbox.write([value, 1, value])
    assert not differences([dense, 1, dense], list(reader.read(*answer, answers)))
    answers.close()


def test_what_the_values_of_a_letter_share_is_written_once(arena):
    store, inbox = Store(arena), Inbox(arena)
    payload = {"x": torch.randn(3), "y": torch.randn(3000)}
    lengths = []
    for count in (1, 2):
        _, length, blocks = store.write([(client, payload) for client in range(count)])
        lengths.append(length)
        assert len(blocks) == 2  # the letter and y
    assert lengths[1] - lengths[0] < 30
    first, second = inbox.read(*store.write([(client, payload) for client in range(2)])[:2])
    assert first[1] is second[1]
    assert not differences(payload, first[1])


def test_a_letter_that_cannot_be_written_takes_nothing(arena):
    store = Store(arena)
    with pytest.raises(AttributeError, match="pickle"):
        store.write([torch.randn(1000), lambda: 0])
    assert not store._known
    assert store.write([torch.randn(1000)])[2][0].offset == 0


def test_equal_tensors_at_the_same_place_of_values_are_one(arena):
    answers, store = Arena(), Store(arena)
    outbox, reader = Outbox(answers, Inbox(arena)), Reader(store)
    values = [(torch.full((1000,), float(client)), torch.ones(1000)) for client in range(4)]
    back = list(reader.read(*outbox.write(values), answers))
    assert not differences(values, back)
    assert len({id(anchor) for _, anchor in back}) == 1
    assert len({id(own) for own, _ in back}) == 4
    answers.close()


def test_a_tensor_is_written_once_for_all_and_its_memory_is_used_again(arena):
    store, inbox = Store(arena), Inbox(arena)
    shared = torch.randn(5000)
    sent = [store.write([(client, {"x": shared, "own": torch.full((5000,), float(client))})]) for client in range(50)]
    assert len({id(blocks[0]) for *_, blocks in sent}) == 1
    assert len({id(blocks[1]) for *_, blocks in sent}) == 50
    read = [next(inbox.read(*letter)) for *letter, _ in sent]
    assert len({id(tree["x"]) for _, tree in read}) == 1
    assert all(torch.equal(tree["x"], shared) and (tree["own"] == client).all() for client, tree in read)
    size = arena._size
    for *_, blocks in sent:
        store.release(blocks)
    for client in range(50):
        *_, blocks = store.write([{"x": torch.full((5000,), float(client))}])
        store.release(blocks)
    assert arena._size == size
    assert (read[7][1]["own"] == 7).all()  # a worker's tensors are its own


def test_what_was_changed_in_place_is_written_again(arena):
    store, inbox = Store(arena), Inbox(arena)
    x = torch.zeros(1000)
    *first, _ = store.write([x])
    x += 1
    *second, _ = store.write([x])
    assert next(inbox.read(*first)).sum() == 0
    assert next(inbox.read(*second)).sum() == 1000


def test_a_block_that_is_used_again_is_read_again(arena):
    store, inbox = Store(arena), Inbox(arena)
    for value in (1.0, 2.0, 3.0):
        *letter, blocks = store.write([torch.full((1000,), value)])
        assert (next(inbox.read(*letter)) == value).all()
        inbox.turn()
        store.release(blocks)


def test_a_worker_keeps_what_the_last_letter_used_and_no_more(arena):
    store, inbox = Store(arena), Inbox(arena)
    *letter, _ = store.write([torch.randn(1000)])
    first = next(inbox.read(*letter))
    inbox.turn()
    assert next(inbox.read(*letter)) is first
    inbox.turn()
    inbox.turn()
    assert next(inbox.read(*letter)) is not first


def test_what_comes_back_as_it_was_sent_is_the_senders_own(arena):
    store, inbox = Store(arena), Inbox(arena)
    answers = Arena()
    outbox, reader = Outbox(answers, inbox), Reader(store)
    changed = torch.zeros(1000)
    sent = {"kept": torch.randn(1000), "changed": changed, "shifted": torch.randn(1001)[1:]}
    *letter, blocks = store.write([sent])
    received = next(inbox.read(*letter))
    received["changed"] += 1
    offset, length = outbox.write([received])
    back = next(reader.read(offset, length, answers))
    assert back["kept"] is sent["kept"]
    assert (back["changed"] == 1).all()
    assert torch.equal(back["shifted"], sent["shifted"])
    assert back["shifted"].data_ptr() % ALIGNMENT == 0
    assert offset == changed.nbytes
    store.release(blocks)
    inbox.turn()
    again = next(reader.read(*outbox.write([received["kept"]]), answers))  # nobody holds it for us now
    assert torch.equal(again, sent["kept"])
    answers.close()


def test_an_arena_grows_under_its_readers(arena):
    other = Arena.__new__(Arena)
    other.__dict__ |= arena.__dict__ | {"_mapping": None, "_size": 0}
    arena.write_bytes(0, b"early")
    assert other.read_bytes(0, 5) == b"early"
    arena.write_bytes(1 << 22, b"late")
    assert other.read_bytes(1 << 22, 4) == b"late"
    assert other.read_bytes(0, 5) == b"early"
    other._mapping.close()


def test_status_is_readable_at_any_time():
    status = Status()
    assert status.read()[0] == IDLE
    status.begin(7)
    assert status.read() == (7, "start")
    status.stage("a stage with a name that is too long for the words that are kept for it, ü")
    assert status.read() == (7, "a stage with a name that is too long for the words that are kep")
    status.rest()
    assert status.read()[0] == IDLE
    status.close()


def test_settled_is_dense_aligned_and_the_same_object_if_it_was():
    good = {
        "a": torch.randn(3, 4),
        "b": (torch.tensor(1), None),
        "c": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    }
    assert settled(good) is good
    for name, part in settled(odd_tensors()).items():
        before = odd_tensors()[name]
        assert part.data_ptr() % ALIGNMENT == 0
        assert bits(part) == bits(before)
        assert part.untyped_storage().nbytes() == part.nbytes or name.startswith(
            ("of", "bool", "channels", "transposed")
        )
        assert not part.requires_grad
    assert settled(odd_tensors())["transposed"].stride() == (1, 30)


def made(count):
    """Work on ``count`` calls, and a list of how many were made."""
    calls = []

    def make():
        for number in range(count):
            calls.append(number)
            yield number

    return Work(make(), range(count), processes=1), calls


def test_calls_are_made_when_they_are_taken_and_told_in_order():
    todo, calls = made(6)
    first = todo.take(4)
    assert (len(first), len(calls), todo.left) == (4, 4, 2)
    for task in first[::-1]:
        assert not todo.ready
        todo.end(Answer([task], [f"outcome {task.number}"], 10))
    assert [todo.tell() for _ in range(4)] == [f"outcome {n}" for n in range(4)]
    last = todo.take(4)
    assert [task.number for task in last] == [4, 5]
    todo.end(Answer(last, [4, 5], 0))
    assert not todo.take(1)
    assert [todo.tell(), todo.tell(), todo.finished] == [4, 5, True]


def test_tasks_without_outcomes_of_their_own_are_done_again_one_by_one():
    todo, _ = made(3)
    tasks = todo.take(3)
    todo.end(Answer(tasks, [Lost("update", "one of these")], 10))
    assert (todo.ready, todo.finished, todo.left) == (False, False, 3)
    for task in tasks:
        assert todo.take(3) == [task]
        todo.end(Answer([task], [Lost("update", str(task.number))], 10))
    assert [todo.tell().reason for _ in range(3)] == ["0", "1", "2"]


def test_no_more_is_held_than_allowed_behind_a_slow_one(monkeypatch):
    monkeypatch.setattr(work, "HELD_BYTES", 100)
    todo, calls = made(50)
    slow, *others = todo.take(1)
    while tasks := todo.take(1):
        others += tasks
        todo.end(Answer(tasks, [None], 30))
    assert len(calls) == 5  # four are held and have more than 100 bytes
    todo.again(slow)
    assert todo.take(3) == [slow]
    todo.end(Answer([slow], [None], 30))
    while todo.ready:
        todo.tell()
    assert len(todo.take(3)) == 3


def test_outcomes_are_told_by_their_places_and_where_nothing_is_to_be_done_there_is_none():
    todo = Work(["c", None, "b", "a"], [2, 1, 3, 0], processes=1)
    tasks = todo.take(9)
    assert [(task.number, task.call) for task in tasks] == [(2, "c"), (3, "b"), (0, "a")]
    assert not todo.ready
    todo.end(Answer(tasks, [task.call for task in tasks], 1))
    assert [todo.tell() for _ in range(4)] == ["a", None, "c", "b"]
    assert todo.finished
    assert not todo.take(1)


def test_the_cheapest_first_in_its_block_is_begun_however_much_is_held(monkeypatch):
    """Blocks of as many as may wait: what the outcomes wait for is never held back, and the next block is."""
    monkeypatch.setattr(work, "HELD_BYTES", 100)
    todo = Work("cdba" + "hgfe", [2, 3, 1, 0, 7, 6, 5, 4], processes=1)
    begun = []
    while tasks := todo.take(1):
        begun += tasks
        if tasks[0].number:
            todo.end(Answer(tasks, [None], 60))
    assert [task.call for task in begun] == ["c", "d", "b", "a", "h"]
    todo.end(Answer([begun[3]], [None], 60))
    while todo.ready:
        todo.tell()
    assert [task.call for task in todo.take(3)] == ["g", "f", "e"]
