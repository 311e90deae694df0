"""Whose folder it is: nothing that a run did not write is touched."""

from __future__ import annotations

from pathlib import Path

import pytest
from train.toys import FedAvg, Sparse, run

from fedsep.core import FedSepError


def test_finished_run_is_not_overwritten_by_accident(tmp_path):
    run(FedAvg(), tmp_path)
    with pytest.raises(FedSepError, match=r"seed0: the output folder holds a finished run.*overwrite"):
        run(FedAvg(), tmp_path)


def test_somebody_elses_folder_is_left_alone(tmp_path):
    folder = tmp_path / "run" / "seed0"
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("years of work")
    for resume in (False, True):
        with pytest.raises(FedSepError, match=r"is not empty|holds no run to resume, but thesis"):
            run(FedAvg(), tmp_path, resume=resume)
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_overwrite_removes_what_a_run_writes_and_nothing_else(tmp_path):
    run(Sparse(), tmp_path, states="disk", rounds=9)
    folder = tmp_path / "run" / "seed0"
    mine = [folder / "thesis.txt", folder / "clients" / "notes.txt", folder / "checkpoint" / "round-1" / "my.txt"]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("years of work")
    run(FedAvg(), tmp_path, overwrite=True, rounds=2)
    assert all(path.read_text() == "years of work" for path in mine)
    assert not (folder / "reports").exists()
    assert not list(folder.glob("clients/*/*"))
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2


def test_unwritable(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(FedSepError, match="the output folder cannot be written"):
        run(FedAvg(), tmp_path)
    with pytest.raises(FedSepError, match="the output folder cannot be written"):
        run(FedAvg(), Path("/proc/nowhere"))


def test_a_folder_in_use_is_refused(tmp_path):
    import os

    from fedsep.folder import open_folder

    folder = open_folder(tmp_path / "a", resume=False, overwrite=False)
    child = os.fork()
    if child == 0:
        try:
            open_folder(tmp_path / "a", resume=True, overwrite=False)
        except FedSepError as error:
            os._exit(7 if "another process" in str(error) else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    folder.close()
