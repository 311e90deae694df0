"""The settings of the table: which data in which shares, which clients, which model; and the scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ALL = (1.0, 0.5, 0.25, 0.125, 0.0625)
"""The paper's five capabilities."""

WEAK = ALL[1:]
"""A fleet without full-size clients."""

RARE: Mapping[str, Any] = {"rare": [6, 7, 8, 9], "among": 0.6}
"""Four classes live on the last 60 % of the clients only: those of 1/4 and less."""


@dataclass(frozen=True)
class Setting:
    """One table: all rows on the same data, clients and model.

    Attributes:
        name: Of its folder.
        words: For headings.
        data: Name of the data set, in ``fedsep.data``.
        k: Classes of a client.
        capabilities: Of the clients.
        target: Served accuracy to which rounds are counted.
        draw: How clients come by their capability.
        partition: Further arguments of ``classes``.
        rounds: Of a run.
        evaluated: Rounds at which the model is evaluated.
        clients: Number of clients.
        per_round: Clients in a round.
        held_out: Validation images, and public ones for distillation; neither is anybody's training data.
        model: The model, at full width.
        widths: The argument that gives its width, and the value at full width.
        head: Arguments of the model under which networks of several widths have last layers of one shape; empty: they
            have if the last of several widths stays.
        arguments: Arguments of every method that differ from the recipe's.
        own: Arguments of some methods that do.
        tries: Learning rates that validation accuracy decides among; empty: nothing is tuned.
        beyond: One rate below ``tries`` and one above: tried, too, where the best of ``tries`` is the lowest or the
            highest of them; None: no further one is.
        seeds: Of every run.
        fewer: Seeds of rows that are not ``main``; None: the same.
        variants: Whether rows that are variants of others are run, too.
        calibration: Training images on which static batch normalisation is measured.
        rows: Those that are run; empty: all.
    """

    name: str
    words: str
    data: str
    k: int
    capabilities: tuple[float, ...]
    target: float
    draw: str = "dynamic"
    partition: Mapping[str, Any] = field(default_factory=dict[str, Any])
    rounds: int = 100
    evaluated: tuple[int, ...] = (10, 20, 30, 40, 50, 55, 60, 65, 70, 75, 80, 85, 90, 95, 100)
    clients: int = 100
    per_round: int = 10
    held_out: tuple[int, int] = (5000, 2000)
    model: Mapping[str, Any] = field(default_factory=lambda: {"use": "fedsep.models.small_cnn"})
    widths: tuple[str, Any] = ("widths", (16, 32, 32))
    head: Mapping[str, Any] = field(default_factory=dict[str, Any])
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    tries: tuple[float, ...] = ()
    beyond: tuple[float, float] | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    fewer: tuple[int, ...] | None = None
    variants: bool = False
    calibration: int = 2000
    rows: tuple[str, ...] = ()

    @property
    def levels(self) -> tuple[float, ...]:
        """Widths among which the served one is chosen: 1, 1/2, 1/4."""
        return (1.0, 0.5, 0.25)

    def further(self, best: float | None) -> tuple[float, ...]:
        """What is tried beside ``tries`` if ``best`` is the best of them; nothing where none is known."""
        if self.beyond is None or not self.tries:
            return ()
        ends = zip(self.beyond, (min(self.tries), max(self.tries)), strict=True)
        return tuple(rate for rate, end in ends if best == end)

    def zoo(self, *, shared_head: bool) -> dict[str, Any]:
        """The model at the width of every capability below 1, for methods that distil.

        Args:
            shared_head: Whether last layers have one shape: the last of several widths stays, or ``head`` says how.
        """
        argument, whole = self.widths
        made: dict[str, Any] = {}
        for share in (each for each in self.capabilities if each < 1):
            width = _narrower(whole, share)
            if shared_head and not self.head:
                width = [*width[:-1], whole[-1]]
            made[f"{share:g}"] = {**self.model, argument: width, **(self.head if shared_head else {})}
        return made


def _narrower(width: Any, share: float) -> Any:
    if isinstance(width, Sequence):
        return [max(1, round(share * each)) for each in width]
    return max(1, round(share * width))


@dataclass(frozen=True)
class Scale:
    """What is run of the table.

    Attributes:
        name: ``smoke``, ``small``, ``wide`` or ``paper``.
        told: In words, for the table.
        settings: In the order of the tables.
        tune_rounds: Rounds of a run that tries a learning rate.
        tune_seed: Its seed: none of those that the tables show.
        engine: The engine, where the recipe's does not do.
    """

    name: str
    told: str
    settings: tuple[Setting, ...]
    tune_rounds: int = 50
    tune_seed: int = 100
    engine: Mapping[str, Any] | None = None
