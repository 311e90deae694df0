"""Real sites, over Flower's network transport: the server sends letters, each site answers for its clients.

``records`` turns letters into Flower's records and back, ``post`` sends and waits, ``roster`` knows which site has
which clients, ``session`` is the engine's side of a round, ``handing`` brings the final model to all; ``site`` answers
within its ``limits``, with what ``store`` remembers; ``allowance`` bounds what sites send; ``local`` is a grid in one
process.
"""

from fedsep.flower.versions import require_flower

__all__ = ["require_flower"]
