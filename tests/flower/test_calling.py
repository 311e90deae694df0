"""How a site calls its server: one program for each state folder, started again while that may help."""

from __future__ import annotations

import sys

import pytest

from fedsep.core import FedSepError
from fedsep.flower import calling
from fedsep.flower.calling import Line, call
from fedsep.flower.lock import holding
from fedsep.flower.reception import Reception
from fedsep.flower.rules import Rules

LINE = Line("127.0.0.1:1", None, None)


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setattr(Line, "check", lambda self: None)
    for name, seconds in (("_AGAIN", 0.1), ("_PAUSE", 0.05), ("_STILL", 6.0)):
        monkeypatch.setattr(calling, name, seconds)
    return Reception(Rules(tmp_path), tmp_path / "state")


def program(monkeypatch, tmp_path, source):
    """In place of Flower's node program; ``times`` is how often it was started before."""
    file = tmp_path / "times"
    before = f"from pathlib import Path\nf = Path({str(file)!r})\ntimes = len(f.read_text()) if f.exists() else 0\n"
    written = f"{before}f.write_text('x' * (times + 1))\n{source}"
    monkeypatch.setattr(Line, "command", lambda self: [sys.executable, "-c", written])
    return file


def test_two_programs_do_not_keep_their_memories_in_one_folder(site):
    with holding(site.folder / "lock"), pytest.raises(FedSepError, match=r"state: a client .* \(--name, --state\)"):
        call(site, LINE, print)
    assert not (site.folder / "site.json").exists()


def test_a_site_whose_earlier_program_still_counts_is_taken_later(site, monkeypatch, tmp_path):
    source = "print('SuperNode ID: 7' if times else '[code: 2004] Failed to activate SuperNode.')"
    file, said = program(monkeypatch, tmp_path, source), []

    def say(text):
        said.append(text)
        if len(said) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call(site, LINE, say)
    assert "is not taken: perhaps the server has not noticed yet" in said[1]
    assert "ended; it is started again" in said[2]
    assert file.read_text() == "xx"


def test_what_the_site_refuses_is_said_where_it_was_started(site, monkeypatch, tmp_path):
    site.refused({"kind": "hello"}, 9, "of an earlier day")
    written = f"""if True:
        from fedsep.flower.reception import Reception
        from fedsep.flower.rules import Rules
        import time
        site = Reception(Rules(Path({str(tmp_path)!r})), Path({str(site.folder)!r}))
        for why in ("no data", "no data", "too long"):
            site.refused({{"kind": "hello"}}, 9, why)
        time.sleep(60)
    """
    program(monkeypatch, tmp_path, written)
    said = []

    def say(text):
        said.append(text)
        if "too long" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call(site, LINE, say)
    assert said[1:] == ["this site does not take part: no data", "this site does not take part: too long"]


@pytest.mark.parametrize(("reason", "again"), [("Failed to activate SuperNode", True), ("no such option", False)])
def test_a_site_that_is_not_taken_says_why_in_the_end(site, monkeypatch, tmp_path, reason, again):
    monkeypatch.setattr(calling, "_STILL", 2.0)
    file = program(monkeypatch, tmp_path, f"import time; time.sleep(2 * (times > 0)); print({reason!r})")
    with pytest.raises(FedSepError, match=f"does not take this site(.|\n)*{reason}"):
        call(site, LINE, print)
    assert (len(file.read_text()) > 1) is again
