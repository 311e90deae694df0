"""Which model of a zoo is exported: the one that clients of a capability have, as the server last averaged it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fedsep.codecs.population import Population
from fedsep.core import FedSepError
from fedsep.export.finished import Finished
from fedsep.recipes.call import Call
from fedsep.zoo import Zoo


def with_member(run: Finished, capability: float | None, client: int | None) -> Finished:
    """The run with the model of the clients that are meant; as it is, where the server's is meant or there is no zoo.

    Args:
        run: A finished run.
        capability: Of the clients; None: the client's, where one is named, else the server's model is meant.
        client: One of these.

    Raises:
        FedSepError: There is no such client or capability, the server does not keep the clients' models, or the average
            of another model is asked for than the server's.
    """
    zoo: Zoo | None = getattr(getattr(run.algorithm, "view", None), "zoo", None)
    if zoo is None or (capability is None and client is None):
        return run
    codec: Any = getattr(run.algorithm, "codec", None)
    if not isinstance(codec, Population):
        if capability == 1.0 and client is None:
            return run
        raise FedSepError(
            f"{'--client' if capability is None else '--capability'}: the models of the clients of "
            f"{run.summary['method']} never leave them, and the server keeps none: its own model can be exported, "
            "without --capability and --client"
        )
    name = _name(run, zoo, capability, client)
    if run.average and name != codec.served:
        raise FedSepError(
            "--average: the run keeps the average of the server's model alone, not of its clients' models: leave "
            "--average out"
        )
    made = replace(run, member=name, model=_call(run, name))
    return made if run.average else replace(made, params=run.state.x[name])


def _name(run: Finished, zoo: Zoo, capability: float | None, client: int | None) -> str:
    """The architecture of a capability."""
    if client is not None:
        own = run.ctx(client, capability).capability
        if capability is None and run.experiment.recipe.options()["cohort"].draw == "dynamic":
            raise FedSepError(
                f"--capability: say which: client {client} has another capability, and so another model, in every round"
            )
        capability = own
    assert capability is not None
    if wrong := zoo.errors([capability]):
        raise FedSepError(f"--capability: {wrong[0]}")
    return zoo.name(capability)


def _call(run: Finished, name: str) -> Call:
    """The block of the recipe that the architecture was made by."""
    [method] = run.experiment.recipe.methods.values()
    given: dict[Any, Call] = method.given("zoo") or {}
    return next((call for level, call in given.items() if float(level) == float(name)), run.model)
