"""A record of experiments as one self-contained HTML page: verdicts, pictures, every check."""

from __future__ import annotations

from typing import Any

from fedsep.recipes.text import inline
from fedsep.report.markup import Content, Html, code, fold, paragraph, section, table, tag
from fedsep.report.page import document
from fedsep.report.wording import seconds_text
from fedsep.theory.drawing import picture_svg
from fedsep.theory.record import Record, verdict

HEAD = (
    "experiment",
    "verdict",
    "equalities",
    "largest deviation",
    "bounds",
    "largest share",
    "seeds",
    "processor time",
)
_TITLE = "Section 3.1, predicted and measured"


def rows(record: Record) -> list[list[str]]:
    """The table of verdicts as text, a row an experiment, in the columns of ``HEAD``."""
    return [[name, *_row(verdict(entry))] for name, entry in record["experiments"].items()]


def theory_page(record: Record) -> str:
    """The page's HTML; the same record gives the same bytes."""
    told = (
        "Largest deviation: |measured − predicted| over what is allowed (four standard errors, plus the next order "
        "where the prediction is a leading term). Largest share: measured over its upper bound."
    )
    verdicts = table(HEAD, rows(record), "Verdicts.", told)
    parts = [section("verdicts", "Verdicts", verdicts)]
    parts += [_experiment(name, entry, at) for at, (name, entry) in enumerate(record["experiments"].items())]
    machine: Any = record["environment"]
    made = f"Measured with {inline(record['scale'])}, float64; torch {machine['torch']}, {machine['started']}."
    body = [
        tag(
            "header",
            [tag("h1", _TITLE), paragraph("What the convergence analysis says, beside what the code does. ", made)],
        ),
        tag("main", parts),
        tag("footer", paragraph("Written by ", code("fedsep theory"), ". One file, no scripts, nothing is loaded.")),
    ]
    return document(_TITLE, tag("body", body))


def _row(found: Record) -> list[str]:
    return [
        "holds" if not found["failed"] else f"{len(found['failed'])} fail",
        str(found["equalities"]),
        number(found["deviation"]),
        str(found["bounds"]),
        number(found["share"]),
        str(found["seeds"]),
        seconds_text(found["seconds"]),
    ]


def number(value: float | None) -> str:
    """Three digits, or a dash."""
    return "—" if value is None else f"{value:.3g}"


def _experiment(name: str, entry: Record, at: int) -> Html:
    first = next(iter(entry["seeds"]))
    figures: list[Content] = []
    for place, picture in enumerate(entry["seeds"][first]["pictures"]):
        drawn = Html(picture_svg(picture, f"e{at}p{place}-"))
        caption = f"Seed {first}. Marks: measured; lines: predicted."
        figures.append(tag("figure", [tag("h3", picture["title"]), drawn, tag("figcaption", caption)]))
    checks = [_checks(seed, each["checks"]) for seed, each in entry["seeds"].items()]
    return section(
        name, name, paragraph(entry["statement"]), tag("div", figures, class_="charts"), fold("Every check", checks)
    )


def _checks(seed: str, checks: list[Record]) -> Html:
    head = ["quantity", "measured is", "predicted", "measured", "standard error", "verdict"]
    return table(head, [_check(check) for check in checks], f"Seed {seed}.")


def _check(check: Record) -> list[str]:
    figures = [number(check[name]) for name in ("predicted", "measured", "error")]
    told = "—" if check["relation"] == "reported" else "holds" if check["holds"] else "fails"
    return [check["what"], check["relation"], *figures, told]
