"""The laws, for parts and methods of your own: one call checks one part.

    from fedsep import testing
    testing.check_codec(MyCodec(), params, shard, task=task)

A law that does not hold raises ``LawBroken``, an ``AssertionError`` that says which law, what was expected
and what came instead.
"""

from fedsep.testing.algorithms import check_algorithm
from fedsep.testing.broken import LawBroken
from fedsep.testing.codecs import check_codec
from fedsep.testing.documented import documented_bytes
from fedsep.testing.operators import check_operator
from fedsep.testing.payloads import check_payload
from fedsep.testing.play import play
from fedsep.testing.purity import pure
from fedsep.testing.servers import check_server
from fedsep.testing.views import check_view
from fedsep.testing.wires import check_wire

__all__ = [
    "LawBroken",
    "check_algorithm",
    "check_codec",
    "check_operator",
    "check_payload",
    "check_server",
    "check_view",
    "check_wire",
    "documented_bytes",
    "play",
    "pure",
]
