"""The first words of the messages between ranks."""

from __future__ import annotations

OPEN = "open"
"""Rank 0: a run begins, made of this."""
READY = "ready"
"""The answer: what is wrong; nothing, if it is empty."""
CHUNK = "chunk"
"""Rank 0: tasks. Where their letter lies, its length, and where the body's parts belong."""
ANSWER = "answer"
"""Their outcomes: where the letter lies in the body, its length, and seconds of work."""
SHARE = "share"
"""Rank 0: what came of the run, for all."""
TODO = "todo"
"""Rank 0, on the command line: a run that is about to begin."""
CLOSE = "close"
"""Rank 0: the run is over."""
