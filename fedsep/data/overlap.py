"""Whether public examples occur in a fleet's private or test data, for pools that no data block has checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import torch

from fedsep.core import Samples
from fedsep.data.federation import Federation
from fedsep.data.public import fingerprints, in_common
from fedsep.engines.engine import Fleet

_ROWS = 4096  # that are hashed at once
_FEW, _LEAST = 0.05, 10  # a part of a pool, or so many, may be equal without its inputs being of few values


def overlap(public: Samples, fleet: Fleet) -> list[str]:
    """Why a pool cannot be public for this fleet, as a sentence, if it cannot.

    Inputs are compared as they are stored, or, where the types differ, as models see them. Only the pool's hashes are
    kept, however many clients there are. Inputs of few values, such as categories, are equal by chance: where more than
    a twentieth of the pool, and ten or more, repeat themselves, as many are allowed as these let expect, twice over.
    """
    stored, seen, others = set[bytes](), set[bytes](), 0
    ours = {raw: list(_hashed(public, raw)) for raw in (True, False)}
    for part in _parts(fleet):
        raw = part.x.dtype == public.x.dtype
        found = stored if raw else seen
        found |= set(ours[raw]).intersection(_hashed(part, raw))
        others += part.size
    both = sum(a in stored or b in seen for a, b in zip(ours[True], ours[False], strict=True))
    often = Counter(ours[True])
    repeated = sum(often[each] > 1 for each in ours[True])
    plain = repeated >= _LEAST and repeated > _FEW * public.size
    by_chance = 2 * repeated * others / public.size if plain else 0
    if both <= by_chance:
        return []
    name: str = getattr(fleet, "name", "the clients")
    return [in_common(name, "the method's public examples", both, public.size, "examples")]


def _hashed(samples: Samples, raw: bool) -> Iterator[bytes]:
    for x in samples.x.split(_ROWS):
        values = (x if raw else samples.normalised(x)).cpu().reshape(len(x), -1).contiguous()
        yield from fingerprints(values.view(torch.uint8).numpy())  # NumPy does not know every type


def _parts(fleet: Fleet) -> Iterator[Samples]:
    """All examples: of a federation its three sets, of which the clients' parts are cut; else whatever there is."""
    if isinstance(fleet, Federation):
        yield from (dealt.all() for dealt in fleet.dealt if dealt is not None)
        return
    yield from (part for part in (fleet.validation, fleet.test) if part is not None)
    for client in range(fleet.clients):
        yield from (part for part in fleet.shard(client) if part is not None)
