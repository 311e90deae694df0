"""Whether a method suits its fleet: capabilities that cannot be cut, minibatches that are too small, missing data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fedsep.calibrating import static_model
from fedsep.cohort import Cohort
from fedsep.core import Algorithm, Samples, Task
from fedsep.engines.engine import Fleet
from fedsep.options import Evaluate
from fedsep.zoo import Zoo, by_minibatch, called


def mistakes(
    algorithm: Algorithm[Any, Any], task: Task, fleet: Fleet, cohort: Cohort, evaluate: Evaluate, seed: int
) -> list[str]:
    """What is wrong with a method for these clients, as sentences."""
    view: Any = getattr(algorithm, "view", None)
    found = list(dict.fromkeys(view.mistakes(cohort.capabilities))) if hasattr(view, "mistakes") else []
    found += [text for part in _learners(algorithm) for text in _own(part, cohort.capabilities)]
    found += _not_augmentable(algorithm, fleet)
    found += _batches_of_one(algorithm, fleet, _normalised(view, task, cohort, seed, fleet.clients))
    public = [text for part in ("codec", "server") for text in _own(getattr(algorithm, part, None))]
    found += public[:1]  # two parts may rest on one argument
    found += _not_public(algorithm, fleet)
    found += _calibrated_on_one(task, evaluate) + _scored_on_one(algorithm, task)
    return found + _nothing_to_score_on(algorithm, task, fleet)


def _normalised(view: Any, task: Task, cohort: Cohort, seed: int, clients: int) -> Callable[[int], str | None]:
    """Of a client: what a model that it may be given is called, if that has batch normalisation.

    In a zoo a client's model depends on its capability, which may be another one in every round.
    """
    zoo: Zoo | None = getattr(view, "zoo", None)
    if zoo is None:
        return lambda client, found=next(iter(by_minibatch({"the model": task})), None): found
    bad = set(by_minibatch(zoo.members))

    def of(client: int) -> str | None:
        drawn = cohort.draw == "dynamic"
        levels = cohort.capabilities if drawn else cohort.capability(seed, 0, [client], clients)
        held = [zoo.name(level) for level in levels if not zoo.errors([level])]  # which are told elsewhere
        return next((called(name) for name in held if name in bad), None)

    return of if bad else lambda client: None


def _own(part: Any, *told: Any) -> list[str]:
    """What a part of a method knows to be wrong with its own data, or with clients of some capabilities."""
    return part.mistakes(*told) if hasattr(part, "mistakes") else []


def _not_public(algorithm: Algorithm[Any, Any], fleet: Fleet) -> list[str]:
    """Public examples that are private, or are tested on; the fleet's own were hashed when they were set apart."""
    owners = [getattr(algorithm, part, None) for part in ("codec", "server")]
    owners += [getattr(owner, "pool", None) for owner in owners]
    held: list[Samples | None] = [getattr(owner, "public", None) for owner in owners]
    pools = {id(pool): pool for pool in held if pool is not None and pool is not getattr(fleet, "public", None)}
    if not pools or hasattr(fleet, "present"):  # data at sites are nobody's to look at
        return []
    from fedsep.data.overlap import overlap

    return [text for pool in pools.values() for text in overlap(pool, fleet)]


def _batches_of_one(algorithm: Algorithm[Any, Any], fleet: Fleet, normalised: Callable[[int], str | None]) -> list[str]:
    """Batch normalisation has no statistics of one example."""
    size = _batch_size(algorithm)
    if size is _UNKNOWN:
        return []
    for client in _here(fleet):
        model = normalised(client)
        n = 0 if model is None else fleet.shard(client).train.size
        if n and (n == 1 or size == 1 or (size and n % size == 1)):
            return [
                f"batch_size must leave no minibatch of one example, since {model} has batch normalisation "
                f"(got {size}; client {client} has {n} training examples): choose another, or a model with norm=group"
            ]
    return []


def _not_augmentable(algorithm: Algorithm[Any, Any], fleet: Fleet) -> list[str]:
    """Images can be cropped, rows of a table cannot."""
    here = _here(fleet)
    each = (getattr(part, "augment", None) for part in _learners(algorithm))
    return [text for part in each if here for text in _own(part, fleet.shard(here[0]).train.x)]


def _calibrated_on_one(task: Task, evaluate: Evaluate) -> list[str]:
    if evaluate.calibration > 1 or evaluate.statistics != "calibrated" or static_model(task) is None:
        return []
    return [
        "evaluate.calibration must be >= 2, since the model has static batch normalisation, which has no statistics of "
        f"one example (got {evaluate.calibration})"
    ]


def never_served(algorithm: Algorithm[Any, Any], evaluate: Evaluate) -> list[str]:
    """Several densities of which validation data would choose, where a recipe has nothing chosen."""
    shares: tuple[float, ...] = getattr(algorithm, "densities", ())
    if len(shares) < 2 or evaluate.served:
        return []
    told = ", ".join(f"{share:g}" for share in shares)
    return [f"several served densities ({told}) need evaluate.served, which chooses among them on validation data"]


def _scored_on_one(algorithm: Algorithm[Any, Any], task: Task) -> list[str]:
    """Scores of units, and the second term of their codec, are computed on minibatches too."""
    codec = getattr(algorithm, "codec", None)
    parts = [getattr(codec, name, None) for name in ("scorer", "second")]
    ones = [name for name in ("images", "batch_size") if any(getattr(part, name, None) == 1 for part in parts)]
    if not ones or not by_minibatch({"the model": task}):
        return []
    return [
        f"{name} must be >= 2 where units are scored, since the model has batch normalisation, which has no "
        f"statistics of one example (got 1)"
        for name in ones
    ]


def _nothing_to_score_on(algorithm: Algorithm[Any, Any], task: Task, fleet: Fleet) -> list[str]:
    """Scores that are fitted to validation data need some of every client."""
    scorer: Any = getattr(getattr(algorithm, "codec", None), "scorer", None)
    if getattr(scorer, "data", "train") != "validation":
        return []
    parts = ((client, fleet.shard(client).validation) for client in _here(fleet))
    sizes = [(client, 0 if part is None else part.size) for client, part in parts]
    client = next((client for client, size in sizes if not size), None)
    if client is None:
        return _fitted_to_one(sizes) if by_minibatch({"the model": task}) else []
    return [
        f"scores must be fitted to training data where clients have no validation data (got data=validation; client "
        f"{client} has none): set validation in data, or make it larger"
    ]


def _fitted_to_one(sizes: Sequence[tuple[int, int]]) -> list[str]:
    """Of clients, and how many validation examples they have."""
    one = next((client for client, size in sizes if size == 1), None)
    if one is None:
        return []
    return [
        "scores must be fitted to two validation examples of a client or more, since the model has batch "
        f"normalisation, which has no statistics of one (got one of client {one}): make validation larger"
    ]


def _here(fleet: Fleet) -> Sequence[int]:
    """Clients whose data are here: at a site, or for a server whose data lie at sites, not all."""
    return getattr(fleet, "present", range(fleet.clients))


_UNKNOWN = object()


def _learners(algorithm: object) -> Iterator[object]:
    """The local steps, from the outermost of what they are wrapped in."""
    part: object = getattr(algorithm, "learner", None)
    while part is not None:
        yield part
        part = getattr(part, "learner", None) or getattr(part, "sgd", None)


def _batch_size(algorithm: object) -> Any:
    """Of a method's local steps; None takes all examples."""
    return next((part.batch_size for part in _learners(algorithm) if hasattr(part, "batch_size")), _UNKNOWN)  # type: ignore[attr-defined]
