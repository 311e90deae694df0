"""Law: two ranks play the rounds of ``sequential``, bit for bit, whatever the method."""

from __future__ import annotations

from catalogue import CATALOGUE
from engines.ranks import in_ranks
from engines.toys import differences
from laws.test_vectorised import Fleet, rounds

from fedsep import engines
from fedsep.engines.together import followed
from fedsep.errors import RunFailed


def test_two_ranks_play_the_rounds_of_sequential(tmp_path):
    """All rows in the two processes: what takes time is to start them."""

    def act(rank):
        unlike = {}
        for row in CATALOGUE:
            algorithm, fleet, task = row.build(), Fleet(row.base or row.task), row.task
            if rank:
                try:
                    followed(engines.torchrun(), algorithm, task, fleet)
                except RunFailed:  # as at the end of every session that is not ``fit``'s
                    continue
            else:
                found = rounds(engines.torchrun(), algorithm, task, fleet)
                expected = rounds(engines.sequential(), algorithm, task, fleet)
                unlike |= {row.name: apart} if (apart := differences(expected, found)) else {}
        return unlike

    assert in_ranks(act, tmp_path) == ({}, [0, 0])
