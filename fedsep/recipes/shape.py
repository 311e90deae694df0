"""The outer shape of a recipe: which keys there are, which are wanted, and of what type."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from fedsep.recipes.hints import whole
from fedsep.recipes.mistakes import Mistake, nearest, shown

Block = dict[str, Any]


class Shape(BaseModel):
    """The keys of a recipe. Blocks are opened by ``fedsep.recipes.bind``."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str | None = Field(None, description="text")
    seed: int | list[int] = Field(0, description="a whole number >= 0 or a list of them")
    rounds: int = Field(ge=1, description="a whole number >= 1")
    data: Block = Field(description="a block with use:")
    model: Block = Field(description="a block with use:")
    task: Block = Field(description="a block with use:")
    methods: list[Any] = Field(min_length=1, description="a list of blocks with use:")
    cohort: Block = Field(default_factory=dict, description="a block")
    engine: Block = Field(description="a block with use:")
    evaluate: Block = Field(default_factory=dict, description="a block")
    checkpoint: Block = Field(default_factory=dict, description="a block")
    stop: Block = Field(default_factory=dict, description="a block")
    accept: Block = Field(default_factory=dict, description="a block")
    states: Literal["memory", "disk"] = Field("memory", description="memory or disk")


def normalised(tree: Any) -> tuple[Block, list[Mistake]]:
    """A recipe with the default blocks filled in and its methods as a list, and what cannot be normalised."""
    if not isinstance(tree, dict):
        return {}, [Mistake("", "a recipe is a block of keys such as rounds, data, model, methods", shown(tree))]
    tree = {key: value for key, value in tree.items() if value is not None}
    mistakes: list[Mistake] = []
    if "method" in tree and "methods" in tree:
        mistakes.append(Mistake("method", "is given beside methods: give one of them"))
    if "method" in tree:
        single = tree.pop("method")
        tree.setdefault("methods", [single])
    tree.setdefault("task", {"use": "fedsep.tasks.classification"})
    tree.setdefault("engine", {"use": "fedsep.engines.sequential"})
    return tree, mistakes


def shape(tree: Block) -> tuple[Shape | None, list[Mistake]]:
    """The outer shape of a normalised recipe, or None, and what is wrong with it."""
    try:
        result = Shape.model_validate({**tree, **{key: whole(tree[key]) for key in ("seed", "rounds") if key in tree}})
    except ValidationError as error:
        return None, _mistakes(error.errors())
    seeds = seeds_of(result)
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        reason = "must be a whole number >= 0 or a list of different ones"
        return None, [Mistake("seed", reason, shown(result.seed))]
    return result, []


def seeds_of(found: Shape) -> tuple[int, ...]:
    """The seeds of a recipe; ``seed: [0, 1, 2]`` asks for three runs of each method."""
    return tuple(found.seed) if isinstance(found.seed, list) else (found.seed,)


def _mistakes(errors: list[ErrorDetails]) -> list[Mistake]:
    found = {str(error["loc"][0]): _mistake(error) for error in reversed(errors)}
    return list(reversed(found.values()))


def _mistake(error: ErrorDetails) -> Mistake:
    key = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        return Mistake(
            key, "is no part of a recipe", shown(error["input"]), nearest(key, [*Shape.model_fields, "method"])
        )
    wanted = Shape.model_fields[key].description
    if error["type"] == "missing":
        return Mistake(key, f"is missing: a recipe needs {wanted} here")
    return Mistake(key, f"must be {wanted}", shown(error["input"]) if len(error["loc"]) == 1 else "")
