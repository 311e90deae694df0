"""Shared memory: what is written is read, once for all who are sent it, and no more is held than is under way."""

from __future__ import annotations

import pytest
import torch
from engines.toys import bits, differences, odd_tensors

from fedsep.engines import letters, work
from fedsep.engines.arena import Arena
from fedsep.engines.mail import Inbox, Outbox, Reader
from fedsep.engines.process import Answer
from fedsep.engines.settle import ALIGNMENT, settled
from fedsep.engines.status import IDLE, Status
from fedsep.engines.store import Store
from fedsep.engines.work import Work


@pytest.fixture
def arena():
    made = Arena()
    yield made
    made.close()


def test_letters_keep_values_layouts_and_everything_else(arena):
    value = {"odd": odd_tensors(), "rest": [None, 1, 2.5, "text", (True, b"x")], "large": torch.randn(3000)}
    dense = settled(value)
    store, inbox = Store(arena), Inbox(arena)
    outbox, reader = Outbox(arena, Inbox(arena)), Reader(store)
    letter, _ = store.write(value)
    assert not differences(dense, letters.read(letter, inbox.get))
    answer = letters.write(value, outbox.put)
    assert not differences(dense, reader.read(answer, arena))


def test_a_tensor_is_written_once_for_all_and_its_memory_is_used_again(arena):
    store, inbox = Store(arena), Inbox(arena)
    shared = torch.randn(5000)
    sent = [store.write((client, {"x": shared, "own": torch.full((5000,), float(client))})) for client in range(50)]
    assert len({id(blocks[0]) for _, blocks in sent}) == 1
    assert len({id(blocks[1]) for _, blocks in sent}) == 50
    read = [letters.read(letter, inbox.get) for letter, _ in sent]
    assert len({id(tree["x"]) for _, tree in read}) == 1
    assert all(torch.equal(tree["x"], shared) and (tree["own"] == client).all() for client, tree in read)
    size = arena._size
    for _, blocks in sent:
        store.release(blocks)
    for client in range(50):
        _, blocks = store.write({"x": torch.full((5000,), float(client))})
        store.release(blocks)
    assert arena._size == size
    assert (read[7][1]["own"] == 7).all()  # a worker's tensors are its own


def test_what_was_changed_in_place_is_written_again(arena):
    store, inbox = Store(arena), Inbox(arena)
    x = torch.zeros(1000)
    first, _ = store.write(x)
    x += 1
    second, _ = store.write(x)
    assert letters.read(first, inbox.get).sum() == 0
    assert letters.read(second, inbox.get).sum() == 1000


def test_a_block_that_is_used_again_is_read_again(arena):
    store, inbox = Store(arena), Inbox(arena)
    for value in (1.0, 2.0, 3.0):
        letter, blocks = store.write(torch.full((1000,), value))
        assert (letters.read(letter, inbox.get) == value).all()
        inbox.turn()
        store.release(blocks)


def test_a_worker_keeps_what_the_last_letter_used_and_no_more(arena):
    store, inbox = Store(arena), Inbox(arena)
    letter, _ = store.write(torch.randn(1000))
    first = letters.read(letter, inbox.get)
    inbox.turn()
    assert letters.read(letter, inbox.get) is first
    inbox.turn()
    inbox.turn()
    assert letters.read(letter, inbox.get) is not first


def test_what_comes_back_as_it_was_sent_is_the_senders_own(arena):
    store, inbox = Store(arena), Inbox(arena)
    answers = Arena()
    outbox, reader = Outbox(answers, inbox), Reader(store)
    sent = {"kept": torch.randn(1000), "changed": torch.zeros(1000), "shifted": torch.randn(1001)[1:]}
    letter, blocks = store.write(sent)
    received = letters.read(letter, inbox.get)
    received["changed"] += 1
    back = reader.read(letters.write(received, outbox.put), answers)
    assert back["kept"] is sent["kept"]
    assert (back["changed"] == 1).all()
    assert torch.equal(back["shifted"], sent["shifted"])
    assert back["shifted"].data_ptr() % ALIGNMENT == 0
    assert outbox._end == 8 * 1000
    store.release(blocks)
    inbox.turn()
    again = reader.read(letters.write({"kept": received["kept"]}, outbox.put), answers)  # nobody holds it for us now
    assert torch.equal(again["kept"], sent["kept"])
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


def made(count, arena):
    """Work on ``count`` calls, and a list of how many were made."""
    calls = []

    def make():
        for number in range(count):
            calls.append(number)
            yield number

    return Work(make(), count, Store(arena), spread=4), calls


def test_calls_are_made_when_they_are_taken_and_told_in_order(arena):
    todo, calls = made(6, arena)
    first = todo.take(4)
    assert (len(first), len(calls), todo.left) == (4, 4, 2)
    for task in first[::-1]:
        assert not todo.ready
        todo.end(Answer(task, f"outcome {task.number}", 10))
    assert [todo.tell() for _ in range(4)] == [f"outcome {n}" for n in range(4)]
    last = todo.take(4)
    assert [task.number for task in last] == [4, 5]
    for task in last:
        todo.end(Answer(task, task.number, 0))
    assert not todo.take(1)
    assert [todo.tell(), todo.tell(), todo.finished] == [4, 5, True]


def test_no_more_is_held_than_allowed_behind_a_slow_one(arena, monkeypatch):
    monkeypatch.setattr(work, "HELD_BYTES", 100)
    todo, calls = made(50, arena)
    slow, *others = todo.take(1)
    while tasks := todo.take(1):
        others += tasks
        todo.end(Answer(tasks[0], None, 30))
    assert len(calls) == 5  # four are held and have more than 100 bytes
    todo.again(slow)
    assert todo.take(3) == [slow]
    todo.end(Answer(slow, None, 30))
    while todo.ready:
        todo.tell()
    assert len(todo.take(3)) == 3
