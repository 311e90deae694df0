"""Finished runs to export from."""

from __future__ import annotations

import pytest
import torch

from fedsep.cli.carry_out import How, Todo, fit_one
from fedsep.cli.plan import plan
from fedsep.recipes import Sources, build, read


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Runs some methods of a recipe in double precision, each way of drawing capabilities in a folder of its own."""

    def run(recipe_text, methods):
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        out = tmp_path_factory.mktemp("runs")
        for draw, own in methods.items():
            (out / f"{draw}.yaml").write_text(recipe_text.replace("DRAW", draw))
            recipe = read(out / f"{draw}.yaml")
            experiment = build(recipe, 0, only=frozenset(own))
            for job in plan(recipe, out / draw):
                if job.method in own:
                    fit_one(Todo(recipe, job), experiment, How(Sources()), None)
        torch.set_default_dtype(before)
        return out

    return run
