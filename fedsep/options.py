"""When ``fit`` evaluates, saves and stops: plain values, checked together before any work."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

from fedsep.ranges import Count, Fraction, Momentum, Positive, argument_errors


@dataclass(frozen=True)
class Evaluate:
    """When the server's model is evaluated; the last round always is.

    Attributes:
        every: Every so many rounds; None: only the last.
        rounds: At these rounds (counted from 1) instead.
        clients: Also every client's own model on its own test part, before and after its local steps.
        last: ``mean_last`` in the summary is the mean of this many evaluations.
        statistics: Of static batch normalisation: ``calibrated``: measured on training data, as they are, of all
            clients; ``testbatch``: those of the batches that are evaluated, which depend on one another then.
        calibration: Number of training examples on which they are measured.
        served: Shares of the units, such as (1.0, 0.5, 0.25): the best of these sub-models of the server's, by the
            method's own plan, is evaluated beside the whole one; it is chosen on validation data. Methods without
            sub-models serve the whole model, or the best of several densities of it where they have some (``served``
            of ``zerofl``). Empty: not.
        levels: Shares of the units, such as the cohort's capabilities: the server's sub-model of each, by the method's
            own plan, is evaluated on test data (``test_level_0.5_accuracy``), not the average's; nothing for methods
            without sub-models. None: not.
        held: A share of the units: the sub-model that each client would be sent at this capability, by the method's
            plan and the client's last report, is evaluated on the client's own test part
            (``client_held_accuracy``), and how much the clients' sub-models overlap. None: not.
        average: Also evaluates an exponential average of the server's parameters over rounds, of which each round
            keeps this share. None: not.
    """

    every: Count | None = 10
    rounds: tuple[Count, ...] | None = None
    clients: bool = False
    last: Count = 10
    statistics: Literal["calibrated", "testbatch"] = "calibrated"
    calibration: Count = 2000
    served: tuple[Fraction, ...] = ()
    levels: tuple[Fraction, ...] | None = None
    held: Fraction | None = None
    average: Momentum | None = None

    def due(self, round: int, rounds: int) -> bool:
        """Whether to evaluate after ``round`` (counted from 1) of ``rounds``."""
        if round == rounds:
            return True
        return round in self.rounds if self.rounds is not None else bool(self.every) and round % self.every == 0


@dataclass(frozen=True)
class Checkpoint:
    """When the run is saved; it always is at its start, at its end and when it is interrupted.

    Attributes:
        every: Every so many rounds; None: not by rounds.
        seconds: When so many seconds have passed since the last one; None: not by time.
    """

    every: Count | None = 25
    seconds: Positive | None = None

    def due(self, round: int, seconds: float) -> bool:
        """Whether to save after ``round`` (counted from 1), ``seconds`` after the last checkpoint."""
        return bool(self.every and round % self.every == 0) or (self.seconds is not None and seconds >= self.seconds)


@dataclass(frozen=True)
class Stop:
    """When a run gives up, or has had its time.

    Attributes:
        min_replies: A round with fewer replies is void: nothing of it is kept but the clock.
        patience: The run fails after so many void rounds in a row; those to which nobody was invited do not count.
            It also fails in its last round if no reply was ever accepted.
        seconds: Wall-clock limit of this call of ``fit``: it saves and stops after the round that exceeds it.
    """

    min_replies: Count = 1
    patience: Count = 3
    seconds: Positive | None = None


@dataclass(frozen=True)
class Accept:
    """What a reply must keep to beside the form that the method expects.

    Attributes:
        norm: Largest Euclidean norm of a client's change, as the server reads it, in the coordinates of x; a reply
            above it is refused. None: any.
    """

    norm: Positive | None = None


def option_errors(name: str, options: Any) -> list[str]:
    """What is wrong with the fields of a frozen dataclass, by their hints."""
    hints = get_type_hints(type(options), include_extras=True)
    return [
        error
        for field in fields(options)
        for value, hint in _each(getattr(options, field.name), hints[field.name])
        for error in argument_errors(f"{name}.{field.name}", value, hint)
    ]


def _each(value: object, hint: object) -> Iterable[tuple[object, object]]:
    """The value with its hint, or each element of a sequence with the elements' hint."""
    element = next((get_args(part)[0] for part in (hint, *get_args(hint)) if get_origin(part) is tuple), hint)
    return (
        [(each, element) for each in cast(list[object], value)] if isinstance(value, list | tuple) else [(value, hint)]
    )
