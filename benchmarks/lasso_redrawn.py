"""Why the paper's LASSO decode learns slowly, and whether a sketch that is re-drawn helps it.

MNIST, the four-layer CNN, 10 clients, i.i.d., p = 500, validation accuracy. Where S is re-drawn, both ends hold what
was decoded last, y, and x becomes S' y with the new S': nothing extra would travel. Each row also tells how much of the
initial model a decode of S theta_0 gives back, |y - theta_0| / |theta_0|, and how large its support is.

Usage: python -m benchmarks.lasso_redrawn [--rounds 100] [--out records/lasso_redrawn.json]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedsep import Evaluate, FedSep, algorithms, data, fit, models, operators, random, tasks, tree
from fedsep.calendar import Calendar
from fedsep.codecs.lasso import Lasso
from fedsep.core import Ctx, Decoded, Info, Params, Shard, Task
from fedsep.environment import environment
from fedsep.servers.optimize import Optimize

P, SEED = 500, 100


@dataclass(frozen=True)
class Redrawn:
    """LASSO with a new sketch in every period; the server sends y, too, which in earnest both ends would hold."""

    lasso: Lasso
    calendar: Calendar
    early: bool

    def init(self, params: Params) -> dict[str, Any]:
        """x_1 = S theta_0."""
        return {"anchor": params, "omega": self._at(params, 0).init(params)["omega"], "round": torch.tensor(0)}

    def enroll(self, x: dict[str, Any], ctx: Ctx) -> tuple[()]:
        """Nothing is remembered."""
        return ()

    def decode(self, x: dict[str, Any], memory: Any, shard: Shard, ctx: Ctx) -> tuple[Decoded, Any]:
        """From y of the last period, or from 0."""
        own = self._at(x["anchor"], ctx.round)
        return own.decode({"omega": x["omega"]}, {"key": own.key}, shard, ctx)[0], ()

    def encode(
        self, start: Decoded, y: Params, x: dict[str, Any], memory: Any, shard: Shard, ctx: Ctx
    ) -> tuple[dict[str, Tensor], Any, Info]:
        """As LASSO's."""
        own = self._at(x["anchor"], ctx.round)
        dx, _, info = own.encode(start, y, {"omega": x["omega"]}, {"key": own.key}, shard, ctx)
        return dx, (), info

    def advance(self, x: dict[str, Any], round: int) -> tuple[dict[str, Any], bool]:
        """x <- S' y where a period begins."""
        if not self.calendar.begins(round):
            return {**x, "round": torch.tensor(round)}, False
        y = self.model(x)
        omega = self._at(y, round).init(y)["omega"]
        return {"anchor": y, "omega": omega, "round": torch.tensor(round)}, True

    def model(self, x: dict[str, Any]) -> Params:
        """What clients decode."""
        return self._at(x["anchor"], int(x["round"])).model({"omega": x["omega"]})

    def _at(self, anchor: Params, round: int) -> Lasso:
        key = random.fold(self.lasso.key, self.calendar.epoch(round))
        return dataclasses.replace(self.lasso, key=key, first=anchor if self.early else tree.zeros_like(anchor))


@dataclass(frozen=True)
class Posted:
    """Sends x whole, and reads changes of omega."""

    def cut(self, x: dict[str, Any], ctx: Ctx) -> dict[str, Any]:
        """All of it."""
        return x

    def like(self, x: dict[str, Any], ctx: Ctx) -> dict[str, Any]:
        """Only omega changes."""
        return {"omega": x["omega"]}

    def paste(self, dx: dict[str, Any], x: dict[str, Any], ctx: Ctx) -> tuple[dict[str, Any], None]:
        """Everywhere."""
        return dx, None


def redrawn(task: Task, period: int, *, early: bool, steps: int, beta: float) -> FedSep:
    """``fedsep_lasso`` with a calendar."""
    plain = algorithms.fedsep_lasso(
        task, p=P, beta=beta, start="initial" if early else "zero", decode_steps=steps, lr=0.1, steps=5, batch_size=64
    )
    assert isinstance(plain.codec, Lasso)
    assert isinstance(plain.server, Optimize)
    codec = Redrawn(plain.codec, Calendar(period), early)
    return dataclasses.replace(plain, codec=codec, view=Posted(), server=Optimize({"omega": plain.server.rule}))


def methods(task: Task) -> dict[str, FedSep]:
    """The rows: stopped early or decoded to the end, fixed or re-drawn, and without the penalty."""
    local: dict[str, Any] = {"lr": 0.1, "steps": 5, "batch_size": 64}
    end: dict[str, Any] = {"early": False, "steps": 200, "beta": 0.01}
    soon: dict[str, Any] = {"early": True, "steps": 10, "beta": 0.01}
    return {
        "decoded to the end, fixed": algorithms.fedsep_lasso(
            task, p=P, beta=0.01, start="zero", decode_steps=200, **local
        ),
        "decoded to the end, re-drawn every 25": redrawn(task, 25, **end),
        "stopped early, fixed": algorithms.fedsep_lasso(task, p=P, beta=0.01, **local),
        "stopped early, re-drawn every 25": redrawn(task, 25, **soon),
        "stopped early, re-drawn every 3": redrawn(task, 3, **soon),
        "no penalty, fixed": algorithms.fedsep_linear(task, p=P, operator=operators.gaussian, period="never", **local),
        "no penalty, re-drawn every 25": algorithms.fedsep_linear(
            task, p=P, operator=operators.gaussian, period=25, **local
        ),
        "no penalty, re-drawn every 3": algorithms.fedsep_linear(
            task, p=P, operator=operators.gaussian, period=3, **local
        ),
    }


def first_decode(method: FedSep, params: Params) -> dict[str, float]:
    """What is left of theta_0 after S and decode."""
    state = method.init(params)
    start = tree.ravel(params)[0]
    y = torch.cat([method.model(state)[name].reshape(-1) for name in params])
    return {"relative_error": float((y - start).norm() / start.norm()), "support": int((y != 0).sum())}


def main() -> None:
    """Trains every row and writes the record as it goes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    fleet = data.mnist(clients=10, partition=data.iid(), validation=5000)
    task = tasks.classification(models.cnn(fleet.shape, fleet.classes))
    rows: list[dict[str, Any]] = []
    every = max(1, options.rounds // 4)
    for name, method in methods(task).items():
        row: dict[str, Any] = {"name": name, **first_decode(method, task.init())}
        try:
            run = fit(method, task, fleet, rounds=options.rounds, seed=SEED, evaluate=Evaluate(every=every))
            seen = [line for line in run.metrics if "validation_accuracy" in line]
            row["validation_accuracy"] = [line["validation_accuracy"] for line in seen]
            row["supports"] = [line.get("train_support") for line in seen]
        except Exception as error:  # that a row diverges is a result
            row["failed"] = str(error)
        rows.append(row)
        print(json.dumps(row), flush=True)
        if options.out is not None:
            record = {"environment": environment("sequential", SEED), "p": P, "rounds": options.rounds, "rows": rows}
            options.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
