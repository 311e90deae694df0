"""Times products with operators against one pass over the vector, and measures their memory, in vectors.

A pass is y = 2 x + 1: it reads a vector and writes one, into memory that is there ("in place") or that is new
("fresh"), as y = 2 * x + 1 is in plain PyTorch. S v writes p = d / 100 numbers and is compared with the pass in
place; S^T x makes a new vector and is compared with both. Every figure is the least of several turns, operator and
pass in turn. Memory is all that the process holds at its peak beyond what it held before the vector was made: the
vector, S, the result and whatever is used in between. Each operator and size runs in a process of its own on a CPU; on
a GPU, whose peak can be reset, all run in one.

Usage: python -m benchmarks.operators [--out records/operators.json] [--largest 100000000] [--device cpu] [--threads 2]
"""

from __future__ import annotations

import argparse
import functools
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedsep import operators, random, tree, wires
from fedsep.core import Ctx
from fedsep.environment import environment

SIZES = (10**5, 10**6, 10**7, 10**8)
SHARE = 100  # d / p
MAKERS: dict[str, operators.MakeOperator] = {
    "sparse_signs": operators.sparse_signs,
    "sparse_signs nonzeros=2": functools.partial(operators.sparse_signs, nonzeros=2),
    "block_srht": operators.block_srht,
    "srht": operators.srht,
    "dct": operators.dct,
    "count_sketch": functools.partial(operators.count_sketch, rows=5),
}
PACKED = 10**7
WIRES: dict[str, Callable[[], Any]] = {
    "topk": lambda: wires.topk(PACKED // SHARE),
    "topk packed": lambda: wires.topk(PACKED // SHARE, index="packed"),
    "topk golomb": lambda: wires.topk(PACKED // SHARE, index="golomb"),
    "sign": wires.sign,
    "lloyd_max bits=1": lambda: wires.lloyd_max(bits=1),
    "lloyd_max bits=4": lambda: wires.lloyd_max(bits=4),
}


def measure(name: str, d: int, device: str, seed: int) -> dict[str, Any]:
    """Seconds and memory of one operator at one size, in this process."""
    make, key, p = MAKERS[name], random.key(seed).to(device), d // SHARE
    one = torch.ones((), device=device)
    before = begun(device)
    v = numbers(d, random.fold(key, 1))
    began = now(device)
    sketch = make(p, d, random.fold(key, 2))
    made = now(device) - began
    x = sketch.mv(v)
    sketch.rmv(x)
    peak = (most(device) - before) / (4 * d)
    into = torch.empty_like(v)
    parts: dict[str, Callable[[], object]] = {
        "pass_in_place": lambda: torch.add(one, v, alpha=2, out=into),
        "pass_fresh": lambda: torch.add(one, v, alpha=2),
        "mv": lambda: sketch.mv(v),
        "rmv": lambda: sketch.rmv(x),
    }
    least = fastest(parts, device, turns=100 if d <= 10**6 else 9 if d <= 10**7 else 4)
    return {
        "operator": name,
        "d": d,
        "p": p,
        "milliseconds": {part: round(1e3 * seconds, 4) for part, seconds in {**least, "make": made}.items()},
        "mv_in_passes": round(least["mv"] / least["pass_in_place"], 2),
        "rmv_in_passes": round(least["rmv"] / least["pass_in_place"], 2),
        "rmv_in_fresh_passes": round(least["rmv"] / least["pass_fresh"], 2),
        "peak_vectors": round(peak, 2) if d >= 10**7 else None,  # below, what a process holds anyway is more
    }


def packing(name: str, seed: int) -> dict[str, Any]:
    """Seconds in which a wire packs and reads a message of 10^7 numbers."""
    sent, ctx, wire = {"w": numbers(PACKED, random.key(seed))}, Ctx(0, 1.0, random.key(seed)), WIRES[name]()
    memory = wire.init(sent)
    payload = wire.pack(sent, memory, ctx)[0]
    parts: dict[str, Callable[[], object]] = {
        "pack": lambda: wire.pack(sent, memory, ctx),
        "unpack": lambda: wire.unpack(payload, sent, ctx),
    }
    least = fastest(parts, "cpu", turns=4)
    return {"wire": name, "d": PACKED, "bytes": tree.nbytes(payload),
            "seconds": {part: round(seconds, 4) for part, seconds in least.items()}}  # fmt: skip


def numbers(count: int, key: Tensor) -> Tensor:
    """A vector of normal numbers, drawn piece by piece."""
    v = torch.empty(count, device=key.device)
    for number, piece in enumerate(v.split(1 << 16)):
        piece.copy_(random.normal(random.fold(key, number), piece.numel()))
    return v


def fastest(parts: dict[str, Callable[[], object]], device: str, turns: int) -> dict[str, float]:
    """Each part's least seconds over some turns, in which the parts take turns; one turn is not counted."""
    least = dict.fromkeys(parts, float("inf"))
    for turn in range(turns + 1):
        for name, part in parts.items():
            began = now(device)
            part()
            took = now(device) - began
            least[name] = min(least[name], took) if turn else least[name]
    return least


def now(device: str) -> float:
    """A clock, read when the device has nothing left to do."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def begun(device: str) -> int:
    """Bytes that the process holds now, from where its peak is counted."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def most(device: str) -> int:
    """Bytes that the process held at its peak."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def apart(arguments: list[str]) -> dict[str, Any]:
    """One measurement in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.operators", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Runs everything, prints a line for each result and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--largest", type=int, default=SIZES[-1])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--one", nargs=2, metavar=("OPERATOR", "D"), help="measure this alone, in this process")
    parser.add_argument("--wire", help="measure this alone, in this process")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.one or options.wire:
        name, d = options.one or ("", 0)
        found = measure(name, int(d), options.device, options.seed) if name else packing(options.wire, options.seed)
        print(json.dumps(found))
        return
    gpu = options.device == "cuda"
    same = ["--threads", str(options.threads), "--seed", str(options.seed)]
    record: dict[str, Any] = {"environment": environment("none", options.seed), "device": device_name(options.device),
                              "operators": [], "wires": []}  # fmt: skip
    for d in (size for size in SIZES if size <= options.largest):
        for name in MAKERS:
            found = measure(name, d, "cuda", options.seed) if gpu else apart([*same, "--one", name, str(d)])
            record["operators"].append(found)
            print(json.dumps(record["operators"][-1]), flush=True)
    for name in WIRES if options.device == "cpu" else ():
        record["wires"].append(apart([*same, "--wire", name]))
        print(json.dumps(record["wires"][-1]), flush=True)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(record, indent=2) + "\n")


def device_name(device: str) -> str:
    """The GPU's name, or cpu."""
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


if __name__ == "__main__":
    main()
