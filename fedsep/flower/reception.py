"""A real site's front door: a recipe is admitted once and kept on the disk; every later letter is of its run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fedsep.core import FedSepError, Params
from fedsep.engines.lost import lost
from fedsep.files import write_file, writing
from fedsep.flower.audit import Written
from fedsep.flower.letters import shortened
from fedsep.flower.limits import Limits, kept_to
from fedsep.flower.rules import Rules
from fedsep.flower.site import Site
from fedsep.flower.store import OnSite
from fedsep.flower.versions import facts, mismatch
from fedsep.pack import dump_named

AUDIT = "audit.jsonl"
_SETTINGS = "site.json"
_RUN = re.compile(r"[0-9a-f]{16}")
_LONGEST = 4000  # characters of a reason, which may quote what came


@dataclass(frozen=True)
class Reception:
    """A site between two letters: nothing of it is in memory.

    Attributes:
        rules: What the site has and gives.
        folder: Where it keeps what it must remember.
    """

    rules: Rules
    folder: Path

    def answer(self, letter: Mapping[str, Any], size: int = 0) -> dict[str, Any]:
        """The answer to a letter of ``size`` bytes; whatever is wrong with the letter is written down, too."""
        try:
            site = self._site(letter)
        except Exception as error:
            return self.refused(letter, size, lost(error, "site").reason)
        return site.answer(letter, size)

    def refused(self, letter: Mapping[str, Any], size: int, why: str) -> dict[str, Any]:
        """Writes down why a letter is not answered; what the server is told."""
        why = why[:_LONGEST]
        entry = {
            "received": shortened(letter.get("kind")),
            "run": shortened(letter.get("run")),
            "letter_bytes": size,
            "refused": why,
        }
        Written(self.folder / AUDIT).write(entry)
        return {"problem": why, "facts": facts()}

    def save(self) -> Path:
        """Writes what a process of this site has to know into the folder; the file, which only its owner may read."""
        written = {**asdict(self.rules), "data": str(self.rules.data.resolve())}
        file = self.folder / _SETTINGS
        with writing(file):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_file(file, json.dumps(written, indent=2).encode())
            file.chmod(0o600)
        return file

    def _site(self, letter: Mapping[str, Any]) -> Site:
        run = letter.get("run")
        if not isinstance(run, str) or not _RUN.fullmatch(run):  # it becomes a folder's name
            raise FedSepError("the letter is of no run")
        folder = self.folder / run
        kept = folder / "recipe.yaml"
        if letter.get("kind") == "hello":
            why = mismatch(letter.get("facts", {}), facts())
            if why:
                raise FedSepError(f"the server cannot work with this site: {why}")
            text = str(letter.get("recipe", ""))
        elif kept.is_file():
            text = kept.read_text(encoding="utf-8")
        else:
            raise FedSepError("this site does not know the run: it has not been said hello to, or it lost its folder")
        with kept_to(replace(self.rules.limits, steps=None), "the recipe's model and data"):
            experiment = self.rules.experiment(self.rules.admitted(text))
        [(method, algorithm)] = experiment.algorithms.items()
        if letter.get("kind") == "hello":
            with writing(kept):
                folder.mkdir(parents=True, exist_ok=True)
            write_file(kept, text.encode())
        return Site(
            self.rules.name,
            algorithm,
            experiment.task,
            experiment.federation,
            experiment.federation.present,  # type: ignore[attr-defined]
            OnSite(folder / "clients"),
            self.rules.limits,
            Written(self.folder / AUDIT),
            _Keeping(folder / f"{method}.safetensors"),
        )


@dataclass(frozen=True)
class _Keeping:
    """Where the final model goes."""

    file: Path

    def __call__(self, params: Params) -> None:
        write_file(self.file, dump_named(params))


def reception(file: Path) -> Reception:
    """The site that ``Reception.save`` wrote down."""
    told = json.loads(file.read_text(encoding="utf-8"))
    clients = None if told["clients"] is None else tuple(told["clients"])
    limits = Limits(**told["limits"])
    return Reception(Rules(Path(told["data"]), clients, tuple(told["allow"]), limits, told["name"]), file.parent)
