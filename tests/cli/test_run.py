"""``run`` and ``resume``: what is printed, what is written, what is gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from fedsep.recipes.text import parse

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.usefixtures("here", "page")


def test_a_run_from_end_to_end(command, here):
    code, out, err = command("run", "tiny.yaml")
    assert code == 0
    assert "digits: 1,418 training, 20 validation, 359 test samples" in err
    assert "fedavg seed 0 · round 3/3" in err
    assert [line.split()[0] for line in out.splitlines() if line.startswith((" fedavg", " fedsep_linear"))] == [
        "fedavg", "fedsep_linear"]  # fmt: skip
    assert "160 B" in out  # 20 numbers in double precision
    assert out.splitlines()[-1] == "Report: runs/tiny/report.html"
    for method in ("fedavg", "fedsep_linear"):
        found = {path.name for path in (here / "runs/tiny" / method / "seed0").iterdir()}
        assert found >= {
            "recipe.yaml",
            "summary.json",
            "metrics.jsonl",
            "ledger.jsonl",
            "checkpoint",
            "model.safetensors",
        }
    top = parse((here / "runs/tiny/recipe.yaml").read_text(), "top")
    assert top["methods"][0]["momentum"] == 0.0
    single = parse((here / "runs/tiny/fedavg/seed0/recipe.yaml").read_text(), "single")
    assert single["method"] == top["methods"][0]
    assert single["seed"] == 0


def test_json_is_one_line_a_run_and_nothing_else(command):
    code, out, err = command("run", "tiny.yaml", "--json", "--seeds", "0,5", "--out", "r")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [(line["method"], line["seed"]) for line in lines] == [
        ("fedavg", 0), ("fedsep_linear", 0), ("fedavg", 5), ("fedsep_linear", 5)]  # fmt: skip
    assert list(lines[0]) == ["run", "method", "seed", "rounds", "metrics", "bytes", "seconds"]
    assert lines[1]["run"] == "r/fedsep_linear/seed0"
    assert set(lines[0]["metrics"]["accuracy"]) == {"last", "best", "mean_last"}
    assert lines[1]["bytes"] == {"up": 160, "down": 160 * 2 / 3}
    assert "Report: r/report.html" in err


def test_quiet_says_nothing(command):
    assert command("run", "tiny.yaml", "-q") == (0, "", "")
    code, out, err = command("run", "tiny.yaml", "--quiet", "--json", "--overwrite")
    assert (code, len(out.splitlines()), err) == (0, 2, "")


def test_a_command_that_was_refused_before_its_first_round_is_typed_again(command, here):
    engine = "{use: fedsep.engines.vectorised, device: no_such_thing}"
    assert command("run", "tiny.yaml", "--out", "out", "--engine", engine)[0] == 2
    assert list((here / "out").rglob("*")) == []
    assert command("run", "tiny.yaml", "--out", "out", "-q")[0] == 0
    (here / "own").mkdir()
    (here / "own/recipe.yaml").write_text((here / "tiny.yaml").read_text())
    assert command("run", "own/recipe.yaml", "--out", "own")[0] == 2  # the user's, and not what a run wrote
    assert (here / "own/recipe.yaml").read_text() == (here / "tiny.yaml").read_text()


def test_a_dry_run_writes_nothing(command, here):
    code, out, _ = command("run", "tiny.yaml", "--dry-run", "--seed", "7")
    assert code == 0
    assert "would run fedsep_linear seed 7 into runs/tiny/fedsep_linear/seed7" in out
    assert [path.name for path in here.iterdir()] == ["tiny.yaml"]


def test_a_dry_run_refuses_what_a_run_refuses(command, here):
    (here / "other").mkdir()
    (here / "other/thesis.tex").touch()
    words = ["run", "tiny.yaml", "--out", "other", "--dry-run"]
    assert command(*words) == (
        2, "",
        "other is not empty: choose another folder with --out, or replace the runs in it with --overwrite\n",
    )  # fmt: skip
    assert command(*words, "--overwrite")[0] == 0
    assert [path.name for path in (here / "other").iterdir()] == ["thesis.tex"]
    command("run", "tiny.yaml", "-q")
    code, out, err = command("run", "tiny.yaml", "--dry-run")
    assert (code, err) == (0, "runs/tiny holds all of this already; --overwrite runs it again\n")
    assert "would run" not in out


def test_what_is_done_is_not_done_again(command):
    command("run", "tiny.yaml")
    code, out, err = command("run", "tiny.yaml", "--engine", "workers")
    assert (code, err) == (0, "runs/tiny holds all of this already; --overwrite runs it again\n")
    assert "Report:" in out


def test_a_run_of_an_earlier_version_lacks_settings_that_there_are_now(command, here):
    command("run", "tiny.yaml", "-q")
    for written in (here / "runs/tiny").rglob("recipe.yaml"):
        text = written.read_text()
        written.write_text("".join(line for line in text.splitlines(keepends=True) if "sampling:" not in line))
        assert written.read_text() != text
    code, _, err = command("run", "tiny.yaml")
    assert (code, err) == (0, "runs/tiny holds all of this already; --overwrite runs it again\n")


def test_an_occupied_folder_is_refused(command, here):
    command("run", "tiny.yaml", "-q")
    code, _, err = command("run", "tiny.yaml", "--set", "methods.fedavg.lr=0.5")
    assert code == 2
    assert err == (
        "runs/tiny/fedavg/seed0 holds a run of another recipe (method.lr: 0.1 there, 0.5 here): "
        "choose another folder with --out, or replace what is there with --overwrite\n"
    )
    (here / "runs/tiny/fedavg/seed0/summary.json").unlink()
    code, _, err = command("run", "tiny.yaml")
    assert (code, err) == (
        2, "runs/tiny holds this recipe's runs, not all finished: "
        "fedsep resume runs/tiny goes on, --overwrite starts anew\n"
    )  # fmt: skip
    (here / "other").mkdir()
    (here / "other/thesis.tex").touch()
    code, _, err = command("run", "tiny.yaml", "--out", "other")
    assert (code, err) == (
        2, "other is not empty: choose another folder with --out, or replace the runs in it with --overwrite\n"
    )  # fmt: skip
    assert command("run", "tiny.yaml", "--out", "other", "-q", "--overwrite")[0] == 0
    assert (here / "other/thesis.tex").exists()


def test_overwriting_removes_the_runs_of_the_old_recipe(command, here):
    command("run", "tiny.yaml", "-q", "--seed", "1")
    code, out, _ = command("run", "tiny.yaml", "--overwrite", "--set", "methods.fedavg.name=other")
    assert code == 0
    assert sorted(path.parent.name + "/" + path.name for path in (here / "runs/tiny").glob("*/*")) == [
        "fedsep_linear/seed0", "other/seed0"]  # fmt: skip
    assert " other" in out


@contextmanager
def interrupting(self, title, rounds):
    """Stands in for progress: Ctrl-C in the second round of the second method."""

    def watch(event):
        if "fedsep_linear" in title and event.round == 2:
            raise KeyboardInterrupt

    yield watch


def test_interrupted_and_resumed(command, here, monkeypatch):
    from fedsep.cli.screen import Screen

    command("run", "tiny.yaml", "-q", "--out", "whole")
    with monkeypatch.context() as patch:
        patch.setattr(Screen, "watching", interrupting)
        code, out, err = command("run", "tiny.yaml", "--json", "--out", "cut")
    assert code == 130
    assert [json.loads(line)["method"] for line in out.splitlines()] == ["fedavg"]
    one, rest = err.splitlines()[-2:]
    assert one.startswith("fedsep_linear seed 0: interrupted")
    assert one.endswith("checkpoint of round 2 is whole: fedsep resume cut/fedsep_linear/seed0")
    assert rest == "fedsep resume cut goes on with all that is left"
    code, out, err = command("resume", "cut", "--json")
    assert code == 0
    assert [json.loads(line)["method"] for line in out.splitlines()] == ["fedsep_linear"]
    assert "cut/fedavg/seed0 is finished" in err
    for file in ("fedavg/seed0/model.safetensors", "fedsep_linear/seed0/model.safetensors"):
        assert (here / "cut" / file).read_bytes() == (here / "whole" / file).read_bytes()


def test_resume_takes_one_run_and_starts_what_was_not_started(command, here):
    import shutil

    command("run", "tiny.yaml", "-q", "--out", "r")
    shutil.rmtree(here / "r/fedavg")
    (here / "r/fedsep_linear/seed0/summary.json").unlink()
    code, _, _ = command("resume", "r/fedsep_linear/seed0", "-q")
    assert code == 0
    assert (here / "r/fedsep_linear/seed0/summary.json").exists()
    assert not (here / "r/fedavg").exists()
    assert command("resume", "r", "-q") == (0, "", "")
    assert (here / "r/fedavg/seed0/summary.json").exists()


def test_resume_refuses_what_it_cannot_go_on_with(command, here):
    assert command("resume", "nothing")[::2] == (2, "nothing: nothing to resume: there is no such folder\n")
    (here / "empty").mkdir()
    assert command("resume", "empty")[::2] == (2, "empty: nothing to resume: empty/recipe.yaml is missing\n")
    command("run", "tiny.yaml", "-q", "--out", "r")
    top = here / "r/recipe.yaml"
    top.write_text(top.read_text().replace("rounds: 3", "rounds: 4"))
    code, _, err = command("resume", "r")
    assert (code, err) == (2, "r/fedavg/seed0 holds a run of another recipe: rounds: 3 there, 4 here\n")
    (here / "r/fedavg/seed0").rename(here / "moved")
    code, _, err = command("resume", "moved")
    assert (code, err) == (2, "moved: a run's folder must keep its name, fedavg/seed0, to be resumed\n")


def test_a_run_without_a_whole_checkpoint_does_not_keep_the_others_from_going_on(command, here):
    command("run", "tiny.yaml", "-q", "--out", "r")
    for method in ("fedavg", "fedsep_linear"):
        (here / "r" / method / "seed0/summary.json").unlink()
    for file in here.glob("r/fedavg/seed0/checkpoint/*/checkpoint.json"):
        file.write_bytes(b"no json")
    code, _, err = command("resume", "r", "-q")
    assert code == 1
    assert err.startswith("fedavg seed 0: r/fedavg/seed0/checkpoint/round-00000003/checkpoint.json: damaged")
    assert "no checkpoint is whole; remove r/fedavg/seed0, this run's folder, and resuming starts it anew\n" in err
    assert (here / "r/fedsep_linear/seed0/summary.json").exists()
    assert not (here / "r/fedavg/seed0/summary.json").exists()


def test_a_failed_run_does_not_stop_the_others(command, here):
    code, out, err = command("run", "tiny.yaml", "--set", "methods.fedavg.lr=1e308", "--json")
    assert code == 1
    assert [json.loads(line)["method"] for line in out.splitlines()] == ["fedsep_linear"]
    assert "fedavg seed 0: round" in err
    assert json.loads((here / "runs/tiny/fedavg/seed0/summary.json").read_text())["status"] == "failed"
    assert (here / "runs/tiny/report.html").exists()


def test_replies_that_failed_are_told_even_when_quiet(command, here):
    words = ["--set", "engine.faults={drop: 0.5}", "--set", "methods=[{use: fedsep.algorithms.fedavg, steps: 1}]"]
    code, out, err = command("run", "tiny.yaml", "-q", *words)
    summary = json.loads((here / "runs/tiny/fedavg/seed0/summary.json").read_text())
    rows = [json.loads(line) for line in (here / "runs/tiny/fedavg/seed0/ledger.jsonl").read_text().splitlines()]
    first = next(row for row in rows if "failure" in row)
    assert (code, out, summary["status"]) == (0, "", "done")
    assert err == (
        f"fedavg seed 0: {summary['failures']} of 9 replies failed; the first: client {first['client']}, "
        f"round {first['round']}, stage drop: the reply was lost (injected)\n"
    )
    (here / "runs/tiny/fedavg/seed0/summary.json").unlink()
    assert command("resume", "runs/tiny", "-q") == (0, "", err)


def test_a_run_of_which_no_reply_was_accepted_has_failed(command, here):
    personal = "{use: fedsep.algorithms.fedsep_personal, solver: neumann, tau: 50, steps: 2, lr: 0.5}"
    code, out, err = command("run", "tiny.yaml", "-q", "--set", f"methods=[{personal}]", "--set", "rounds=2")
    summary = json.loads((here / "runs/tiny/fedsep_personal/seed0/summary.json").read_text())
    assert (code, out, summary["status"]) == (1, "", "failed")
    assert err.startswith(
        "fedsep_personal seed 0: not one reply of the run was accepted; round 2: 0 of 3 clients replied, fewer than "
        "min_replies=1, for the 2. time in a row (client 0, encode: "
    )
    assert err.count("\n") == 1
    assert summary["reason"] in err


def test_an_unexpected_error_leaves_a_log(command, monkeypatch):
    from fedsep import train

    def broken(*_, **__):
        raise RuntimeError("the roof is on fire")

    monkeypatch.setattr(train, "fit", broken)
    code, _, err = command("run", "tiny.yaml")
    *_, what, where = err.splitlines()
    assert (code, what) == (1, "unexpected RuntimeError: the roof is on fire")
    log = Path(where.removeprefix("the details are in "))
    assert "Traceback (most recent call last)" in log.read_text()
    log.unlink()
    code, _, err = command("run", "tiny.yaml", "--debug", "--overwrite")
    assert code == 1
    assert "Traceback (most recent call last)" in err
    assert "the details are in" not in err


def test_the_command_as_users_start_it(here):
    """In a process: what is printed, the exit code, and no traceback for a mistake."""

    def fedsep(*words):
        line = [sys.executable, "-m", "fedsep", *words]
        return subprocess.run(line, cwd=here, env=environment(), capture_output=True, text=True, check=False)

    done = fedsep("run", "tiny.yaml", "--set", "rounds=1")
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert "fedsep_linear seed 0 · round 1/1" in done.stderr
    assert done.stdout.splitlines()[-1] == "Report: runs/tiny/report.html"
    assert (here / "runs/tiny/report.html").stat().st_size > 10_000
    done = fedsep("run", "tny.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("no shipped recipe of this name (did you mean tiny.yaml?)\n")


def environment():
    """For processes: few threads, no data folder."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "FEDSEP_DATA": ""}


def test_a_process_is_interrupted_by_ctrl_c(here):
    # A background job starts with SIGINT ignored, and so would its children.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from fedsep.cli import main; main()"
    )
    words = [
        sys.executable,
        "-c",
        program,
        "run",
        "tiny.yaml",
        "--set",
        "rounds=100000",
        "--set",
        "checkpoint.every=1000",
    ]
    with subprocess.Popen(words, cwd=here, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "· round" in line:
                process.send_signal(signal.SIGINT)
                break
        left = process.stderr.read()
    assert process.returncode == 130
    assert "fedavg seed 0: interrupted" in left
    assert "is whole: fedsep resume runs/tiny/fedavg/seed0" in left
    assert "fedsep resume runs/tiny goes on with all that is left" in left
    assert "Traceback" not in left


def test_help_is_quick_because_it_imports_little():
    """The package itself is stood in for: what the commands import at their start is what counts here."""
    program = (
        "import sys, types\n"
        "package = types.ModuleType('fedsep'); package.__path__ = ['fedsep']; sys.modules['fedsep'] = package\n"
        "from fedsep.cli import invoke\n"
        "assert invoke(['--help']) == 0 and invoke(['run', '--help']) == 0\n"
        "print([name for name in ('torch', 'numpy', 'yaml', 'matplotlib', 'fedsep.core') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "resume" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
