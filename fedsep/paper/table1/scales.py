"""The scales of the table: a few seconds on digits, hours on two cores, and what the paper ran."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fedsep.paper.table1.settings import ALL, RARE, WEAK, Scale, Setting

_MNIST = Setting(
    "mnist_k2",
    "MNIST, 2 classes a client, all five capabilities",
    "mnist",
    2,
    ALL,
    0.9,
    tries=(0.1, 0.3, 0.6),
    beyond=(0.03, 1.0),
)

_RESNET: Mapping[str, Any] = {"use": "fedsep.models.resnet", "width": 8, "pool": 2}
"""Images are averaged to 16 x 16 pixels, as MNIST's are to 14 x 14: a run takes a third of the time."""

_CIFAR10 = replace(
    _MNIST,
    name="cifar10_k2",
    words="CIFAR-10 at 16 x 16, 2 classes a client, all five capabilities, ResNet of base width 8",
    data="cifar10",
    target=0.3,
    held_out=(2000, 2000),
    model=_RESNET,
    widths=("width", 8),
    head={"features": 32},
    arguments={"lr": 0.1, "batch_size": 32},
    tries=(),  # three rates for every row would cost about as much as the runs of the table
    evaluated=(20, 40, 55, 60, 65, 70, 75, 80, 85, 90, 95, 100),  # half of a run's time goes there
    fewer=(0,),
)

_SMALL = Scale(
    name="small",
    told="small: 100 clients, 10 a round, 100 rounds",
    settings=(
        replace(_MNIST, variants=True),
        replace(
            _MNIST,
            name="mnist_k2_weak",
            words="MNIST, 2 classes a client, no full-size clients",
            capabilities=WEAK,
            target=0.85,
        ),
        replace(
            _MNIST,
            name="mnist_k5",
            words="MNIST, 5 classes a client, all five capabilities",
            k=5,
            target=0.95,
        ),
        replace(
            _MNIST,
            name="mnist_k5_weak",
            words="MNIST, 5 classes a client, no full-size clients",
            k=5,
            capabilities=WEAK,
            target=0.95,
        ),
        replace(
            _MNIST,
            name="mnist_k2_rare",
            words="MNIST, 2 classes a client, four classes on clients of 1/4 and less only",
            draw="ordered",
            partition=RARE,
        ),
        _CIFAR10,
        replace(
            _CIFAR10,
            name="cifar10_k2_weak",
            words="CIFAR-10 at 16 x 16, 2 classes a client, no full-size clients, ResNet of base width 8",
            capabilities=WEAK,
            fewer=(),
        ),
    ),
)

_WIDE = Scale(
    name="wide",
    told="wide: CIFAR-10 at 32 x 32 and the paper's base width, five rows, one seed: minutes on a GPU",
    settings=(
        replace(
            _CIFAR10,
            name="cifar10_k2_wide",
            words="CIFAR-10, 2 classes a client, all five capabilities, ResNet-18 of base width 64",
            model={"use": "fedsep.models.resnet", "width": 64},
            widths=("width", 64),
            head={"features": 64},
            rows=("heterofl", "fedrolex", "fedsep_mask", "fedsep_shared", "importance"),
            seeds=(0,),
            fewer=None,
        ),
    ),
    engine={"use": "fedsep.engines.sequential"},
)

_LIKE_FEDROLEX: Mapping[str, Any] = {
    "lr": 2e-4,
    "batch_size": 10,
    "momentum": 0.9,
    "weight_decay": 1e-3,
    "clip": 1.0,
    "augment": {"use": "fedsep.learners.crop_and_flip", "padding": 4},
}
"""The paper gives no optimiser; it follows FedRolex's setting, whose public recipe this is, also for CIFAR-100."""


def _drops(*at: int) -> Mapping[str, Any]:
    """The learning rate falls to a quarter at these rounds."""
    return {"use": "fedsep.learners.milestones", "at": list(at), "factor": 0.25}


_BIG = replace(
    _CIFAR10,
    words="CIFAR-10, 2 classes a client, ResNet-18",
    target=0.6,
    rounds=3200,
    evaluated=tuple(range(100, 3201, 100)),
    held_out=(5000, 2000),
    model={"use": "fedsep.models.resnet", "width": 64},
    widths=("width", 64),
    head={"features": 64},
    arguments={**_LIKE_FEDROLEX, "schedule": _drops(1200)},
    own={
        "feddf": {"server_steps": 1000},
        "dsfl": {"distil_steps": 100},
        "fedet": {"server_steps": 128, "server_lr": 0.005},
    },
    fewer=None,
)
_BIG_100 = replace(
    _BIG,
    name="cifar100_k20",
    words="CIFAR-100, 20 classes a client, ResNet-18",
    data="cifar100",
    k=20,
    target=0.4,
    rounds=2500,
    evaluated=tuple(range(100, 2501, 100)),
    arguments={**_LIKE_FEDROLEX, "schedule": _drops(1000, 1500)},
)

_BIG_5 = replace(
    _BIG,
    name="cifar10_k5",
    words="CIFAR-10, 5 classes a client, ResNet-18",
    k=5,
    target=0.75,
    arguments={**_LIKE_FEDROLEX, "schedule": _drops(800, 1200)},
)

_PAPER = Scale(
    name="paper",
    told="paper: ResNet-18 of base width 64, 100 clients, 10 a round, 3,200 rounds (CIFAR-100: 2,500), three seeds",
    settings=(
        _BIG,
        _BIG_100,
        _BIG_5,
        replace(_BIG_100, name="cifar100_k50", words="CIFAR-100, 50 classes a client, ResNet-18", k=50),
        # Of the paper's text; its table has no figures of them.
        replace(_BIG_5, name="cifar10_k4", words="CIFAR-10, 4 classes a client, ResNet-18", k=4, target=0.7),
        replace(_BIG_5, name="cifar10_k8", words="CIFAR-10, 8 classes a client, ResNet-18", k=8),
        replace(_BIG_100, name="cifar100_k5", words="CIFAR-100, 5 classes a client, ResNet-18", k=5, target=0.2),
        replace(_BIG_100, name="cifar100_k10", words="CIFAR-100, 10 classes a client, ResNet-18", k=10, target=0.3),
    ),
    engine={"use": "fedsep.engines.sequential"},
)

_SMOKE = Scale(
    name="smoke",
    told="smoke: two rounds on 8 x 8 digits, which shows that everything runs and nothing else",
    settings=(
        Setting(
            name="digits_k2",
            words="digits, 2 classes a client, three capabilities",
            data="digits",
            k=2,
            capabilities=(1.0, 0.5, 0.25),
            target=0.15,
            rounds=2,
            evaluated=(2,),
            clients=10,
            per_round=3,
            held_out=(100, 50),
            model={"use": "fedsep.models.small_cnn", "widths": [4, 8], "pool": 1},
            widths=("widths", (4, 8)),
            arguments={"epochs": None, "steps": 2, "batch_size": 16},
            own={
                "feddf": {"server_steps": 2},
                "dsfl": {"distil_steps": 2, "per_round": 20},
                "fedet": {"server_steps": 2},
                "flash": {"first_epochs": 1},
                "flash_width": {"first_epochs": 1},
            },
            seeds=(0,),
            variants=True,
        ),
    ),
    engine={"use": "fedsep.engines.sequential"},
)

SCALES: Mapping[str, Scale] = {"smoke": _SMOKE, "small": _SMALL, "wide": _WIDE, "paper": _PAPER}
"""How much is run."""
