"""The outer shape of a recipe: which keys there are, which are wanted, and of what type."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from fedsep.learners.precision import Precision
from fedsep.recipes.hints import whole
from fedsep.recipes.mistakes import Mistake, nearest, shown

Block = dict[str, Any]


def _different(seed: int | list[int]) -> int | list[int]:
    seeds = [seed] if isinstance(seed, int) else seed
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ValueError
    return seed


class Shape(BaseModel):
    """The keys of a recipe. Blocks are opened by ``fedsep.recipes.bind``."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str | None = Field(None, description="text")
    seed: Annotated[int | list[int], AfterValidator(_different)] = Field(
        0, description="a whole number >= 0 or a list of different ones"
    )
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
    precision: Precision | None = Field(None, description="float32 or bfloat16")


def normalised(tree: Any) -> tuple[Block, list[Mistake]]:
    """A recipe with the default blocks filled in and its methods as a list, and what cannot be normalised."""
    if not isinstance(tree, dict):
        return {}, [Mistake("", "a recipe is a block of keys such as rounds, data, model, methods", shown(tree))]
    if "theory" in tree:
        return {}, [Mistake("theory", "this is a recipe of fedsep theory, which trains nothing")]
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
        given = {**tree, **{key: whole(tree[key]) for key in ("seed", "rounds") if key in tree}}
        return Shape.model_validate(given), []
    except ValidationError as error:
        return None, _mistakes(error.errors(), tree)


def seeds_of(found: Shape) -> tuple[int, ...]:
    """The seeds of a recipe; ``seed: [0, 1, 2]`` asks for three runs of each method."""
    return tuple(found.seed) if isinstance(found.seed, list) else (found.seed,)


def _mistakes(errors: list[ErrorDetails], tree: Block) -> list[Mistake]:
    """One for each key: a value that fits none of several types is an error for each of them."""
    kinds = {str(error["loc"][0]): error["type"] for error in reversed(errors)}
    return [_mistake(key, kind, tree) for key, kind in reversed(kinds.items())]


def _mistake(key: str, kind: str, tree: Block) -> Mistake:
    if kind == "extra_forbidden":
        return Mistake(key, "is no part of a recipe", shown(tree[key]), nearest(key, [*Shape.model_fields, "method"]))
    wanted = Shape.model_fields[key].description
    if kind == "missing":
        return Mistake(key, f"is missing: a recipe needs {wanted} here")
    meant = nearest(str(tree[key]), get_args(Precision)) if key == "precision" else ""
    return Mistake(key, f"must be {wanted}", shown(tree[key]), meant)
