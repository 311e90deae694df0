"""What sites may send: counted as it comes, for each node and letter, and refused with 413."""

from __future__ import annotations

import asyncio
import base64
from importlib.util import find_spec

import pytest

from fedsep.flower.allowance import Allowance, Bounded, named

needs_flower = pytest.mark.skipif(
    find_spec("flwr") is None, reason="Flower is not installed: pip install 'fedsep[flower]'"
)
PUSH, FETCH = "/v1/fleet/push-object", "/v1/fleet/pull-messages"


async def flower(scope, receive, send):
    """As Flower's program: it reads all of a body, does not know every key, and has letters for those who ask."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            await send({"type": "http.response.start", "status": 500, "headers": []})
            raise ConnectionError
        body, more = body + message["body"], message.get("more_body", False)
    known = dict(scope["headers"]).get(b"flwr-public-key") != b"stranger"
    await send({"type": "http.response.start", "status": 200 if known else 401, "headers": []})
    await send({"type": "http.response.body", "body": b"a letter" if body == b"mine" else b""})


def asked(app, parts, path=PUSH, key=b"key", address="10.0.0.9", **headers):
    """The status that a request with such a body gets, and how many of its parts were read."""
    parts, left, sent = list(parts), [*parts], []
    told = [(b"flwr-public-key", key), *((name.replace("_", "-").encode(), value) for name, value in headers.items())]

    async def receive():
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message):
        sent.append(message)

    asyncio.run(app({"type": "http", "path": path, "client": (address, 5), "headers": told}, receive, send))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    return sent[0]["status"], len(parts) - len(left)


def test_a_request_that_is_too_large_is_refused_as_it_comes():
    app = Bounded(flower, Allowance(10**9, request=100))
    assert asked(app, [b"x" * 50] * 2) == (200, 2)
    assert asked(app, [b"x" * 50] * 9) == (413, 3)
    assert asked(app, [b"x" * 50] * 9, content_length=b"450") == (413, 0)
    assert asked(app, [b"x" * 50] * 9, content_length=b"7") == (413, 3)


def test_a_node_sends_so_much_in_answer_to_a_letter():
    app = Bounded(flower, Allowance(250, request=100))
    assert [asked(app, [b"x" * 100])[0] for _ in range(4)] == [200, 200, 413, 413]
    assert asked(app, [b"x" * 100], key=b"another") == (200, 1)
    assert asked(app, [b"x" * 100], address="10.0.0.10")[0] == 413  # the same node
    assert asked(app, [b"x" * 50])[0] == 200  # all of it is used up
    assert asked(app, [b"none"], FETCH)[0] == 200
    assert asked(app, [b"x" * 10])[0] == 413  # there was no letter
    assert asked(app, [b"mine"], FETCH)[0] == 200
    assert asked(app, [b"x" * 100])[0] == 200


def test_the_limit_that_was_exceeded_is_named_and_the_node_where_it_is_known(caplog):
    app = Bounded(flower, Allowance(250, request=200, names={b"key": "site1"}))

    def warned(parts, key=b"key"):
        caplog.clear()
        assert asked(app, parts, "/v1/fleet/push-messages", key)[0] == 413
        return caplog.messages[0]

    assert warned([b"x" * 150] * 2) == (
        "the node site1 at 10.0.0.9 sends more than the 200 bytes that this server takes in one request: it is refused"
    )
    assert asked(app, [b"x" * 150])[0] == 200
    assert "argument largest says how much" in warned([b"x" * 150])
    assert warned([b"x" * 300], b"stranger").startswith("a site at 10.0.0.9 sends more than the 200 bytes")


@needs_flower
def test_nodes_are_named_by_the_keys_that_their_requests_say(tmp_path):
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key
    from flwr.supercore.primitives.asymmetric import public_key_to_bytes

    from fedsep.flower.certificates import make

    make(tmp_path, [], ["site1", "site2"], 1)
    own = load_ssh_private_key((tmp_path / "nodes/site2").read_bytes(), None).public_key()
    (tmp_path / "nodes/torn.pub").write_text("torn")
    names = named(tmp_path / "nodes")
    assert sorted(names.values()) == ["site1", "site2"]
    assert names[base64.b64encode(public_key_to_bytes(own))] == "site2"


def test_who_is_not_known_uses_up_nothing():
    allowance = Allowance(250, request=100)
    app = Bounded(flower, allowance)
    for _ in range(4):
        assert asked(app, [b"x" * 100], key=b"stranger") == (401, 1)
    assert asked(app, [b"x" * 60] * 2, key=b"stranger") == (413, 2)
    assert (allowance.sent, allowance.coming) == ({}, {})


def test_what_is_still_coming_counts():
    app = Bounded(flower, Allowance(150, request=100))

    async def receive():
        await asyncio.sleep(0)
        return {"type": "http.request", "body": b"x" * 100, "more_body": False}

    async def both():
        statuses = []

        async def send(message):
            statuses.append(message.get("status"))

        scope = {"type": "http", "path": PUSH, "client": ("10.0.0.9", 5), "headers": [(b"flwr-public-key", b"key")]}
        await asyncio.gather(*(app(scope, receive, send) for _ in range(2)))
        return sorted(filter(None, statuses))

    assert asyncio.run(both()) == [200, 413]


def test_what_the_servers_own_machine_asks_is_not_counted():
    app = Bounded(flower, Allowance(10, request=10))
    assert asked(app, [b"x" * 100], "/v1/runtime/push-object") == (200, 1)


@needs_flower
def test_flowers_own_program_refuses_what_is_too_large(monkeypatch):
    """Its application as it is made for the server, with ours before it."""
    import httpx
    from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
    from flwr.superlink import main
    from starlette.middleware import Middleware

    inside = main._get_middleware
    ours = Middleware(Bounded, allowance=Allowance(10**6, request=1000))
    monkeypatch.setattr(main, "_get_middleware", lambda: [ours, *inside()])
    transport = httpx.ASGITransport(main.create_app(), raise_app_exceptions=False)

    async def parts():
        for _ in range(9):
            yield b"x" * 600

    async def posted(content):
        headers = {"content-type": PROTOBUF_MEDIA_TYPE}
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return (await client.post(PUSH, content=content, headers=headers)).status_code

    assert asyncio.run(posted(b"x" * 2000)) == 413
    assert asyncio.run(posted(parts())) == 413
    assert asyncio.run(posted(b"x" * 600)) not in (200, 413)
