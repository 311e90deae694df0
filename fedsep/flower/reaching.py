"""Whether a site reaches its server, looked at before anything is started: what is wrong is said in one line."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

from fedsep.core import FedSepError

_SECONDS = 10.0


def address_of(server: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT`` or ``[HOST]:PORT``.

    Raises:
        FedSepError: It is neither.
    """
    host, colon, port = server.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise FedSepError(f"--server: must be HOST:PORT (got {server!r})")
    return host.strip("[]"), int(port)


def require_server(server: str, authority: Path | None) -> None:
    """Sees that a fedsep server of the right transport answers, with a certificate that ``authority`` signed.

    Raises:
        FedSepError: Nobody is there, the certificate is another's or for another host, or it is another kind of server.
    """
    host, port = address_of(server)
    context = None if authority is None else _trusting(authority)
    try:
        with socket.create_connection((host, port), timeout=_SECONDS) as plain:
            if context is None:
                _require_http(plain, server)
                return
            with context.wrap_socket(plain, server_hostname=host) as secure:
                _require_http(secure, server)
    except ssl.SSLCertVerificationError as error:
        raise FedSepError(
            f"{server}: the server's certificate is not accepted ({error.verify_message}): it must be signed by the "
            f"authority in {authority} and name {host} (fedsep flower certs --host {host})"
        ) from error
    except ssl.SSLError as error:
        raise FedSepError(
            f"{server}: no TLS there ({error.reason}): was the server started with --insecure?"
        ) from error
    except OSError as error:
        raise FedSepError(f"{server}: no server can be reached there ({error.strerror or error})") from error


def _trusting(authority: Path) -> ssl.SSLContext:
    """TLS by the certificates in a file.

    Raises:
        FedSepError: It holds none, or cannot be read.
    """
    try:
        return ssl.create_default_context(cafile=str(authority))
    except OSError as error:  # that of ssl, too
        why = "no certificate in PEM form" if isinstance(error, ssl.SSLError) else error.strerror
        raise FedSepError(f"--ca: {authority}: {why}: it must be the authority's certificate (ca.crt)") from error


def _require_http(connection: socket.socket, server: str) -> None:
    """Releases of Flower from 1.40 on answer HTTP/1.1; those before, and servers of another kind, do not."""
    connection.settimeout(_SECONDS)
    host, _ = address_of(server)
    connection.sendall(f"GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    try:
        start = connection.recv(12)
    except OSError:
        start = b""
    if not start.startswith(b"HTTP/1."):
        raise FedSepError(
            f"{server}: what answers there has not the network transport of flwr 1.40 and later: the server needs "
            "flwr 1.41.0, or it has TLS and --insecure was given here"
        )
