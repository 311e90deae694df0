"""``fedsep doctor``, as a user meets it: in a process of its own, on machines that lack something."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedsep.cli.diagnosis import Finding, healthy, unmet
from fedsep.cli.doctor import text

ROOT = Path(__file__).resolve().parents[2]


def doctor(*arguments, path=(), **environment):
    paths = os.pathsep.join(map(str, (*path, ROOT)))
    return subprocess.run(
        [sys.executable, "-m", "fedsep", "doctor", *arguments],
        env={**os.environ, "PYTHONPATH": paths, **environment}, capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip


def named(section):
    return {finding["name"]: finding for finding in section}


def test_a_machine_that_has_what_is_needed(tmp_path):
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist/train.parquet").write_bytes(b"x" * 2_000_000)
    found = doctor("--json", "--data-dir", str(tmp_path), FEDSEP_DATA=str(tmp_path / "nowhere"))
    assert found.returncode == 0
    told = json.loads(found.stdout)
    assert told["healthy"] is True
    packages, data, engines = (named(told[section]) for section in ("packages", "data", "engines"))
    assert packages["torch"]["fine"]
    assert packages["torch"]["needed"]
    assert packages["python"]["state"].endswith("(>=3.11)")
    assert "pytest" not in packages
    assert named(told["devices"])["cpu"]["fine"]
    assert data["mnist"]["state"] == f"{tmp_path / 'mnist'}: 1 files, 2 MB"
    assert data["looked in --data-dir"]["fine"]
    assert data["looked in FEDSEP_DATA"] == {
        "name": "looked in FEDSEP_DATA", "state": f"{tmp_path / 'nowhere'}: no such folder", "fine": False,
        "needed": False, "cure": "correct FEDSEP_DATA, or unset it",
    }  # fmt: skip
    assert engines.keys() >= {"sequential", "workers", "vectorised"}
    assert "faulty" not in engines


def test_a_machine_that_lacks_packages(tmp_path):
    about = tmp_path / "fedsep-0.1.0.dist-info"
    about.mkdir()
    needs = ["numpy>=99", "nosuchpackage>=1", "nosuchextra>=2; extra == 'hf'"]
    lines = ["Metadata-Version: 2.1", "Name: fedsep", "Version: 0.1.0", *(f"Requires-Dist: {need}" for need in needs)]
    (about / "METADATA").write_text("\n".join(lines) + "\n")
    found = doctor(path=[tmp_path])
    assert found.returncode == 1
    assert "which is not >=99" in found.stdout
    assert "needed: nosuchpackage: pip install 'nosuchpackage>=1'" in found.stdout
    assert "optional: nosuchextra: pip install 'fedsep[hf]'" in found.stdout
    assert found.stdout.rstrip().endswith("fedsep cannot be used here as it is.")


def test_a_machine_whose_torch_is_broken_is_told_so(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch.so is damaged')\n")
    found = doctor("--json", path=[tmp_path])
    assert found.returncode == 1
    told = json.loads(found.stdout)
    assert told["healthy"] is False
    assert "libtorch.so is damaged" in told["engines"][0]["state"]
    assert named(told["packages"])["numpy"]["fine"]


@pytest.mark.parametrize(
    ("installed", "wanted", "first"),
    [
        ("2.13.0+cpu", ">=2.4", ""), ("14.3", "<15,>=14", ""), ("15.0", "<15,>=14", "<15"), ("1.9", ">=1.10", ">=1.10"),
        ("3", ">=3.0.0", ""), ("1.4.2", "~=1.4", ""),
        ("2.0", "~=1.4", "~=1.4"), ("1.0", "!=1.0", "!=1.0"), ("5", "", ""),
        ("1.0", "===1", "===1"),
    ],
)  # fmt: skip
def test_versions_against_what_is_wanted(installed, wanted, first):
    assert unmet(installed, wanted) == first


def test_what_is_needed_counts_and_what_is_optional_does_not():
    engine = Finding("engines", "sequential", "one after the other")
    gone = Finding("packages", "x", "not installed", fine=False, cure="pip install x")
    assert healthy([engine, gone])
    assert not healthy([gone])
    assert not healthy([engine, Finding("packages", "x", "", fine=False, needed=True)])
    assert "optional: x: pip install x" in text([gone, engine])
