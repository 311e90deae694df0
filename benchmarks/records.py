"""Runs the recipes behind docs/results and keeps what is worth keeping of every run in records/.

Usage: python -m benchmarks.records [--jobs N] [NAME ...]   (all without a name; what is finished is not run again)
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from fedsep.cli.entry import DONE, FAILED

RUNS, RECORDS = Path("runs/records"), Path("records")
KEPT = ("recipe.yaml", "environment.json", "summary.json", "metrics.csv", "sweep.json", "clients.jsonl")
SEEDS = ["--seeds", "0,1,2"]
TRIED = {"points", "tuning"}
"""Folders of runs that choose settings: the sweep's table says what they found."""
K2 = "{use: fedsep.data.classes, k: 2}"


def tuned(recipe: str, grid: str) -> list[str]:
    """A sweep of 50 rounds."""
    return ["sweep", f"recipes/mnist_cnn/{recipe}.yaml", "--grid", f"methods.{grid}", "--set", "rounds=50"]


PRIVATE = {
    # A method's recipe, what is set in it, and its grid: three clipping norms by two rates of the server for everyone.
    # Norms scale with sqrt(p / d), rates with d / p.
    "fedavg": ("fedavg", {}, "0.1,0.3,1", "method.server.lr=0.3,1"),
    "linear_500": ("fedsep_linear", {"method.p": 500}, "0.025,0.075,0.25", "method.server_lr=4.7,15.7"),
    "linear_2000": ("fedsep_linear", {}, "0.05,0.15,0.5", "method.server_lr=1.2,3.9"),
    "quantised_2000": ("fedsep_quantised", {}, "0.05,0.15,0.5", "method.server_lr=1.2,3.9"),
}
NOISES = (4,)


def private(name: str, noise: int) -> list[str]:
    """A sweep of a private method at one level of noise, and so at one epsilon."""
    recipe, changes, norms, rates = PRIVATE[name]
    changes = {**changes, "noise": noise}
    sets = [word for path, value in changes.items() for word in ("--set", f"methods.{recipe}.{path}={value}")]
    grids = ["--grid", f"methods.{recipe}.clip={norms}", "--grid", f"methods.{recipe}.{rates}"]
    return ["sweep", f"recipes/private/{recipe}.yaml", *grids, *sets, "--seed", "100"]


COMMANDS: dict[str, list[str]] = {
    # Three settings for every method, 50 rounds, one seed, chosen on validation data.
    "tune_fedavg": tuned("fedavg", "fedavg.lr=0.05,0.1,0.2"),
    "tune_fedsep_linear": tuned("fedsep_linear", "fedsep_linear.server_lr=30,42,48"),
    "tune_fedsep_linear_k2": tuned("fedsep_linear_k2", "fedsep_linear.server_lr=20,30,42"),
    "mnist_fedavg": ["run", "recipes/mnist_cnn/fedavg.yaml", *SEEDS],
    "mnist_fedsep_linear": ["run", "recipes/mnist_cnn/fedsep_linear.yaml", *SEEDS],
    "mnist_fedsep_linear_k2": ["run", "recipes/mnist_cnn/fedsep_linear_k2.yaml", *SEEDS],
    # Few bytes: three settings for every rival, and the server's rate with 2 classes per client.
    "tune_rivals": ["run", "recipes/mnist_cnn/tune_rivals.yaml"],
    "tune_rivals_k2": ["run", "recipes/mnist_cnn/tune_rivals.yaml", "--set", f"data.partition={K2}"],
    "tune_fetchsgd": ["run", "recipes/mnist_cnn/tune_fetchsgd.yaml"],
    "tune_fetchsgd_k2": ["run", "recipes/mnist_cnn/tune_fetchsgd.yaml", "--set", f"data.partition={K2}"],
    "mnist_fetchsgd": ["run", "recipes/mnist_cnn/fetchsgd.yaml"],
    "mnist_fetchsgd_k2": ["run", "recipes/mnist_cnn/fetchsgd_k2.yaml"],
    "tune_quantised_k2": ["run", "recipes/mnist_cnn/tune_quantised_k2.yaml"],
    "tune_quantised": ["run", "recipes/mnist_cnn/tune_quantised.yaml"],
    "tune_quantised_k2_rates": ["run", "recipes/mnist_cnn/tune_quantised.yaml", "--set", f"data.partition={K2}"],
    "mnist_budgets": ["run", "recipes/mnist_cnn/budgets.yaml", *SEEDS],
    "mnist_budgets_k2": ["run", "recipes/mnist_cnn/budgets.yaml", "--set", f"data.partition={K2}", *SEEDS],
    # What the trials of benchmarks.ideas chose.
    "mnist_few_bytes": ["run", "recipes/mnist_cnn/few_bytes.yaml", *SEEDS],
    "mnist_few_bytes_k2": ["run", "recipes/mnist_cnn/few_bytes_k2.yaml", *SEEDS],
    "mnist_quantised": ["run", "recipes/mnist_cnn/fedsep_quantised.yaml", *SEEDS],
    "mnist_quantised_tiny": ["run", "recipes/mnist_cnn/fedsep_quantised_tiny.yaml", *SEEDS],
    "mnist_quantised_k2": ["run", "recipes/mnist_cnn/fedsep_quantised_k2.yaml", *SEEDS],
    # The rivals, each at the local rate that was best on validation data.
    "mnist_rivals": ["run", "recipes/mnist_cnn/rivals_iid.yaml", *SEEDS],
    "mnist_rivals_k2": ["run", "recipes/mnist_cnn/rivals_k2.yaml", *SEEDS],
    "mnist_rivals_at_01": ["run", "recipes/mnist_cnn/rivals_iid_at_01.yaml"],
    "mnist_rivals_400_k2_at_01": ["run", "recipes/mnist_cnn/rivals_400_k2_at_01.yaml"],
    "mnist_rivals_more": ["run", "recipes/mnist_cnn/rivals_more.yaml"],
    "mnist_rivals_more_k2": ["run", "recipes/mnist_cnn/rivals_more_k2.yaml"],
    "mnist_rivals_more_400_k2": ["run", "recipes/mnist_cnn/rivals_more_400_k2.yaml"],
    "mnist_scaffold_k2": ["run", "recipes/mnist_cnn/scaffold.yaml"],
    "tune_scaffold": ["run", "recipes/mnist_cnn/tune_scaffold.yaml"],
    "tune_more": ["run", "recipes/mnist_cnn/tune_more.yaml"],
    "tune_more_k2": ["run", "recipes/mnist_cnn/tune_more_k2.yaml"],
    # One seed of what had not arrived at every target by 200 rounds.
    "mnist_sketch_400": ["run", "recipes/mnist_cnn/sketch_400.yaml"],
    "mnist_sketch_400_k2": ["run", "recipes/mnist_cnn/sketch_400_k2.yaml"],
    "mnist_rivals_400": ["run", "recipes/mnist_cnn/rivals_400.yaml"],
    "mnist_rivals_400_k2": ["run", "recipes/mnist_cnn/rivals_400_k2.yaml"],
    "tune_rivals_low": ["run", "recipes/mnist_cnn/tune_rivals_low.yaml"],
    "mnist_float": ["run", "recipes/mnist_cnn/fedsep_float.yaml", *SEEDS],
    # Entropy of DS-FL's labels before and after they are sharpened, with 2 classes a client and with 5.
    "soft_labels_k2": ["run", "recipes/heterogeneous/soft_labels.yaml"],
    "soft_labels_k5": ["run", "recipes/heterogeneous/soft_labels.yaml", "--set", "data.partition.k=5"],
    "digits_personal_k2": ["run", "recipes/digits/personal_k2.yaml", *SEEDS],
    # Client-level differential privacy: six settings for every method, at one level of noise and so one epsilon.
    **{f"tune_private_{name}_{noise}": private(name, noise) for noise in NOISES for name in PRIVATE},
    "private_none": ["run", "recipes/private/without.yaml", "--seed", "100"],
    "private_4": ["run", "recipes/private/mnist.yaml", *SEEDS],
    "quickstart": ["run", "recipes/quickstart.yaml", *SEEDS],
}


def main() -> None:
    """Runs what is named and copies its record."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--jobs", default="1")
    asked = parser.parse_args()
    names = asked.names or list(COMMANDS)
    unknown = [name for name in names if name not in COMMANDS]
    if unknown:
        sys.exit(f"no such record: {', '.join(unknown)}; there are {', '.join(COMMANDS)}")
    for name in names:
        out = RUNS / name
        resumable = COMMANDS[name][0] == "run" and out.exists()
        words = ["resume", str(out)] if resumable else [*COMMANDS[name], "--out", str(out)]
        done = subprocess.run([sys.executable, "-m", "fedsep", *words, "--jobs", asked.jobs])
        if done.returncode in (DONE, FAILED):  # that a setting diverges is a result, too
            keep(out, RECORDS / name)
        else:
            done.check_returncode()


def keep(run: Path, record: Path) -> None:
    """Copies the small files; checkpoints, models and ledgers can be made again."""
    shutil.rmtree(record, ignore_errors=True)
    for path in sorted(run.rglob("*")):
        if path.name in KEPT and not TRIED & set(path.relative_to(run).parts):
            to = record / path.relative_to(run)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to)


if __name__ == "__main__":
    main()
