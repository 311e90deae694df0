"""Writes run folders in the documented format with made-up figures, to test the report without training."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

HEADER = 32


def write_run(
    results: Path,
    method: str = "fedavg",
    seed: int = 0,
    *,
    rounds: int = 40,
    planned: int | None = None,
    every: int = 5,
    final: float = 0.95,
    speed: float = 12.0,
    up: int = 96_936,
    down: int | None = None,
    clients: int = 10,
    metric: str = "accuracy",
    per_client: bool = False,
    validation: bool = True,
    status: str | None = "done",
    reason: str = "",
    settings: dict | None = None,
    data: dict | None = None,
    model: dict | None = None,
    cohort: dict | None = None,
    failures: int = 0,
    parts: dict[str, int] | None = None,
    tick: float = 0.2,
    recipe: bool = True,
    partition: str | None = None,
    extra: dict | None = None,
) -> Path:
    """A run folder ``results/method/seed<k>``; ``status`` None leaves the summary out, as in a run that goes on."""
    folder = results / method / f"seed{seed}"
    folder.mkdir(parents=True)
    down = up if down is None else down
    noise = random.Random(f"{method}{seed}")
    rows = []
    failed = set(noise.sample(range(1, rounds + 1), failures)) if failures else set()
    total_up = total_down = messages = 0
    wall = 0.0
    ledger = []
    for at in range(1, rounds + 1):
        missing = 1 if at in failed else 0
        for client in range(clients):
            fails = missing and client == clients - 1
            row = {"round": at, "client": client, "direction": "down", "payload": down, "header": HEADER}
            row |= {"serialised": None, "parts": parts or {"x": down}}
            if fails:
                row["failure"] = {"stage": "update", "reason": "RuntimeError: <out of> memory"}
            ledger.append(row)
            if not fails:
                row = {"round": at, "client": client, "direction": "up", "payload": up, "header": HEADER}
                ledger.append(row | {"serialised": None, "parts": {"dx": up}, "accepted": True})
        total_up += up * (clients - missing)
        total_down += down * clients
        messages += 2 * clients - missing
        wall += tick * noise.uniform(0.9, 1.1)
        progress = 1 - math.exp(-at / speed)
        row = {
            "round": at,
            "train_loss": 2.3 * math.exp(-at / speed) + 0.05 + noise.uniform(0, 0.04),
            "replies": clients - missing,
            "failures": missing,
            "bytes_up": total_up,
            "bytes_down": total_down,
            "header_bytes": HEADER * messages,
            "wall_seconds": wall,
        }
        if every and (at % every == 0 or at == 1):
            value = 0.1 + (final - 0.1) * progress + noise.gauss(0, 0.006)
            value = value if metric == "accuracy" else 1.05 - value
            row |= {f"test_{metric}": value, "test_loss": 2.3 - 2.1 * progress}
            if validation:
                row |= {f"validation_{metric}": value - 0.002, "validation_loss": 2.31 - 2.1 * progress}
            if per_client:
                row |= {f"client_{metric}_before": value - 0.01, f"client_{metric}_after": min(0.995, value + 0.03)}
        rows.append(row)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "ledger.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ledger))
    environment = {
        "fedsep": "0.1.0",
        "python": "3.11.4",
        "torch": "2.13.0",
        "platform": "Linux-6.1-x86_64",
        "machine": {"cpu": "AMD EPYC 9B14", "cores": 2},
        "started": "2026-01-05T10:00:00+00:00",
        "command": "fedsep run recipes/quickstart.yaml --seeds 0,1,2 --out runs/quickstart",
        "seed": seed,
        "engine": "workers(processes=2)",
        "threads": 1,
    }
    (folder / "environment.json").write_text(json.dumps(environment, indent=1))
    if recipe:
        whole = {
            "seed": seed,
            "rounds": planned or rounds,
            "data": data or _data(clients, seed),
            "model": model or {"use": "fedsep.models.cnn", "width": 32, "seed": seed},
            "task": {"use": "fedsep.tasks.classification"},
            "methods": [
                {"use": f"fedsep.algorithms.{method}", **(settings or {"lr": 0.1, "steps": 5, "batch_size": 64})}
            ],
            "cohort": cohort or {"per_round": clients, "capabilities": [1.0]},
            "evaluate": {"every": every, "last": 10},
        }
        (folder / "recipe.yaml").write_text(_yaml(whole))
    if status is not None:
        told = _summary(folder, method, seed, rows, metric, validation) | {
            "bytes": {"up": up, "down": down},
            "total_bytes": {"up": total_up, "down": total_down, "header": HEADER * messages},
            "seconds": wall,
            "clients": clients,
            "parameters": 24_234,
            "partition": partition or f"{seed:02x}" * 32,
            "data": "mnist",
            "failures": failures,
            "status": status,
            "reason": reason,
        }
        (folder / "summary.json").write_text(json.dumps(told | (extra or {})))
    return folder


def _data(clients: int, seed: int) -> dict:
    split = {"use": "fedsep.data.classes", "k": 2, "mode": "balanced", "rare": None}
    return {"use": "fedsep.data.mnist", "clients": clients, "partition": split, "validation": 5000, "seed": seed}


def _summary(folder: Path, method: str, seed: int, rows: list[dict], metric: str, validation: bool) -> dict:
    values = [row[f"test_{metric}"] for row in rows if f"test_{metric}" in row]
    merit = {}
    if values:
        best = max(values) if metric == "accuracy" else min(values)
        merit = {"last": values[-1], "best": best, "mean_last": sum(values[-10:]) / len(values[-10:])}
        merit["selected"] = best if validation else None
    metrics = {metric: merit, "loss": {"last": 0.2, "best": 0.2, "mean_last": 0.21, "selected": 0.2}} if values else {}
    return {"run": folder.as_posix(), "method": method, "seed": seed, "rounds": len(rows), "metrics": metrics}


def _yaml(recipe: dict) -> str:
    import yaml

    return yaml.safe_dump(recipe, sort_keys=False)
