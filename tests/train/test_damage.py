"""Damaged checkpoints and full disks: the last whole checkpoint is found, and the file is named."""

from __future__ import annotations

import os
import resource
from contextlib import contextmanager

import pytest
from train.toys import CLIENTS, METHODS, At, FedAvg, Sparse, contents, interrupt, run

from fedsep import pack, tree
from fedsep.core import FedSepError
from fedsep.train import Interrupted, RunFailed


class Mixed(FedAvg):
    """Remembers its key where that is odd, and nothing elsewhere."""

    def update(self, payload, client, shard, ctx):
        change, _, info = super().update(payload, client, shard, ctx)
        memory = {"key": ctx.key} if int(ctx.key) % 2 else ()
        return tree.scale(change, 1.5 if client else 1.0), memory, info


class TestDamage:
    @pytest.fixture
    def folder(self, tmp_path):
        with pytest.raises(Interrupted) as caught:
            run(FedAvg(), tmp_path, watch=At(7, interrupt), evaluate=CLIENTS)
        names = [path.name for path in sorted((caught.value.folder / "checkpoint").iterdir())]
        assert names == ["round-00000006", "round-00000007"]
        return caught.value.folder

    @pytest.mark.parametrize("file", ["server.safetensors", "accepted.safetensors", "checkpoint.json"])
    @pytest.mark.parametrize("damage", ["flip", "last", "cut", "empty", "gone"])
    def test_the_one_before_is_used_and_the_file_named(self, whole, folder, file, damage, caplog):
        path = folder / "checkpoint" / "round-00000007" / file
        hurt(path, damage)
        result = run(FedAvg(), folder.parents[1], resume=True, evaluate=CLIENTS)
        assert contents(result.folder) == whole["fedavg", "memory"]
        assert str(path) in caplog.text
        assert "going on from the checkpoint of round 6" in caplog.text

    def test_facts_that_were_changed_are_noticed(self, whole, folder, caplog):
        path = folder / "checkpoint" / "round-00000007" / "checkpoint.json"
        path.write_text(path.read_text().replace('"void": 0', '"void": 1'))
        assert (
            contents(run(FedAvg(), folder.parents[1], resume=True, evaluate=CLIENTS).folder)
            == whole["fedavg", "memory"]
        )
        assert f"{path}: damaged (its digest is another)" in caplog.text

    def test_none_is_whole(self, folder):
        for number in (6, 7):
            hurt(folder / "checkpoint" / f"round-0000000{number}" / "server.safetensors", "flip")
        with pytest.raises(FedSepError, match=r"round-00000007.*round-00000006.*no checkpoint is whole"):
            run(FedAvg(), folder.parents[1], resume=True, evaluate=CLIENTS)
        assert len(list((folder / "checkpoint").iterdir())) == 2  # left for whoever can mend them

    def test_a_log_that_was_cut(self, folder):
        hurt(folder / "metrics.jsonl", "cut")
        with pytest.raises(FedSepError, match=r"metrics\.jsonl: \d+ bytes, but the checkpoint was made when it had"):
            run(FedAvg(), folder.parents[1], resume=True, evaluate=CLIENTS)

    def test_a_client_file_that_is_gone(self, tmp_path):
        with pytest.raises(Interrupted) as caught:
            run(Sparse(), tmp_path, watch=At(7, interrupt), states="disk")
        victims = sorted((caught.value.folder / "clients").glob("*/*"))
        for path in victims:
            path.unlink()
        with pytest.raises(FedSepError, match=r"clients/0/\d\.\d\.safetensors: this file is missing"):
            run(Sparse(), tmp_path, resume=True, states="disk")

    def test_one_client_file_that_is_gone_among_memories_without_tensors(self, tmp_path):
        whole = run(Mixed(), tmp_path / "whole", states="disk")
        with pytest.raises(Interrupted) as caught:
            run(Mixed(), tmp_path / "cut", watch=At(7, interrupt), states="disk")
        clients = caught.value.folder / "clients"
        accepted = pack.load((caught.value.folder / "checkpoint/round-00000007/accepted.safetensors").read_bytes())
        needed = {c: clients / "0" / f"{c}.{r}.safetensors" for c, r in enumerate(accepted["seen"].tolist()) if r >= 0}
        filed = {client: path for client, path in needed.items() if path.exists()}
        blank = sorted(needed.keys() - filed.keys())
        assert filed
        assert blank
        for client, path in [*filed.items(), (blank[0], clients / "blank.safetensors")]:
            data = path.read_bytes()
            path.unlink()
            message = f"{path}: this file is missing, which holds the memory of client {client}"
            with pytest.raises(FedSepError) as error:
                run(Mixed(), tmp_path / "cut", resume=True, states="disk")
            assert str(error.value) == message
            path.write_bytes(data)
        result = run(Mixed(), tmp_path / "cut", resume=True, states="disk")
        assert contents(result.folder) == contents(whole.folder)

    def test_disk_memories_survive_the_loss_of_the_latest_checkpoint(self, whole, tmp_path):
        changes = METHODS["sparse"][1]
        with pytest.raises(Interrupted) as caught:
            run(Sparse(), tmp_path, watch=At(7, interrupt), states="disk", **changes)
        hurt(caught.value.folder / "checkpoint" / "round-00000007" / "server.safetensors", "cut")
        result = run(Sparse(), tmp_path, resume=True, states="disk", **changes)
        assert contents(result.folder) == whole["sparse", "disk"]


def hurt(path, damage):
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
        return
    middle, last = len(data) // 2, len(data) - 1
    made = {"flip": flip(data, middle), "last": flip(data, last), "cut": data[:middle], "empty": b""}
    path.write_bytes(made[damage])


def flip(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@contextmanager
def disk_of(size, monkeypatch):
    """Writes of this process fail once ``size`` bytes were written, the last of them in the middle."""
    left, write = [size], os.write

    def limited(file, data):
        if left[0] <= 0:
            raise OSError(28, "No space left on device")
        written = write(file, bytes(data)[: left[0]])
        left[0] -= written
        return written

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", limited)
        yield


def error_of(context, *arguments, **changes):
    """What a run fails with; empty if it does not."""
    try:
        with context:
            run(*arguments, **changes)
    except RunFailed as error:
        return str(error)
    return ""


class TestFullDisk:
    @pytest.mark.parametrize("states", ["memory", "disk"])
    def test_whenever_it_fills_up_the_last_checkpoint_is_whole(self, whole, tmp_path, states, monkeypatch):
        changes = METHODS["sparse"][1]
        full = 0
        for size in range(2_000, 80_000, 6_011):
            message = error_of(disk_of(size, monkeypatch), Sparse(), tmp_path, states=states, resume=True, **changes)
            if message:
                assert "cannot write" in message
                assert "No space left on device" in message
                assert "is whole: fedsep resume" in message or "not been saved yet" in message
                full += 1
        assert full >= 3
        result = run(Sparse(), tmp_path, states=states, resume=True, **changes)
        assert contents(result.folder) == whole["sparse", states]
        assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".tmp")]

    def test_a_limit_of_the_system(self, whole, tmp_path):
        """The same from the kernel: no file may grow beyond 6,000 bytes, and the ledger does."""
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, before[1]))
        try:
            with pytest.raises(RunFailed, match=r"cannot write .*ledger\.jsonl: File too large; .*is whole"):
                run(FedAvg(), tmp_path, evaluate=CLIENTS)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        result = run(FedAvg(), tmp_path, resume=True, evaluate=CLIENTS)
        assert contents(result.folder) == whole["fedavg", "memory"]
