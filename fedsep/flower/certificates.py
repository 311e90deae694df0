"""Test certificates and node keys: what a trial needs, made in a second; real organisations bring their own."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fedsep.core import FedSepError
from fedsep.files import write_file, writing

AUTHORITY, CERTIFICATE, KEY = "ca.crt", "server.pem", "server.key"
NODES = "nodes"
"""Folder of the nodes' public keys, at the server."""

_LONGEST = 36_500  # days
_NAME = r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_.-]{0,250}[A-Za-z0-9_])?"
_LOCAL = ("localhost", "127.0.0.1", "::1")


def make(folder: Path, hosts: Sequence[str], nodes: Sequence[str], days: int) -> list[Path]:
    """Writes an authority, a server's certificate and key, and a pair of keys for each node; the files.

    Args:
        folder: Where; it must not hold an authority already.
        hosts: Names and addresses by which sites reach the server; this machine's own are added.
        nodes: Names of the sites.
        days: For how long the certificates are valid.

    Raises:
        FedSepError: There is an authority already, whose certificates would not fit the new one, or a host or the days
            are none that a certificate can have.
        CannotWrite: The folder cannot be written.
    """
    if (folder / AUTHORITY).exists():
        raise FedSepError(f"{folder / AUTHORITY}: is there already; choose another folder, or remove it")
    _require_valid(hosts, days)
    authority, server = _key(), _key()
    root = _certificate("fedsep test authority", authority, None, authority, (), days)
    leaf = _certificate("fedsep server", server, root, authority, (*hosts, *_LOCAL), days)
    secret = {KEY: _private(server), "ca.key": _private(authority)}
    public = {AUTHORITY: _pem(root), CERTIFICATE: _pem(leaf)}
    for name in nodes:
        pair = _node_key()
        secret[f"{NODES}/{name}"], public[f"{NODES}/{name}.pub"] = _ssh_private(pair), _ssh_public(pair)
    return [_write(folder / name, data, name in secret) for name, data in {**public, **secret}.items()]


def _require_valid(hosts: Sequence[str], days: int) -> None:
    if not 1 <= days <= _LONGEST:
        raise FedSepError(f"--days: must be from 1 to {_LONGEST:,} (got {days:,})")
    for host in hosts:
        if not _is_host(host):
            raise FedSepError(
                "--host: must be an address, or a name of ASCII letters, digits, dots and hyphens as it is in the name "
                f"service, xn--... (got {host!r})"
            )


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return re.fullmatch(_NAME, host) is not None
    return True


def _write(file: Path, data: bytes, secret: bool) -> Path:
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        if secret:
            file.touch(0o600)
        write_file(file, data)
        file.chmod(0o600 if secret else 0o644)
    return file


def _key() -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec  # pyright: ignore[reportMissingImports]

    return ec.generate_private_key(ec.SECP256R1())


def _node_key() -> Any:
    """Flower takes elliptic curves in OpenSSH's form."""
    from cryptography.hazmat.primitives.asymmetric import ec  # pyright: ignore[reportMissingImports]

    return ec.generate_private_key(ec.SECP384R1())


def _certificate(name: str, key: Any, issuer: Any, signer: Any, hosts: Sequence[str], days: int) -> Any:
    from cryptography import x509  # pyright: ignore[reportMissingImports]
    from cryptography.hazmat.primitives import hashes  # pyright: ignore[reportMissingImports]

    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now, own = datetime.now(UTC), issuer is None
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if own else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))  # clocks differ
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=own, path_length=0 if own else None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(_usage(own), critical=True)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_alternative(host) for host in hosts]), False)
    return builder.sign(signer, hashes.SHA256())


def _usage(own: bool) -> Any:
    from cryptography import x509  # pyright: ignore[reportMissingImports]

    signs = dict.fromkeys(("key_cert_sign", "crl_sign"), own)
    other = ("content_commitment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only")
    return x509.KeyUsage(digital_signature=True, key_encipherment=not own, **signs, **dict.fromkeys(other, False))


def require_issued(file: Path, authority: Path) -> None:
    """Sees that a certificate, or the last of its chain, is one of the authority's.

    Raises:
        FedSepError: It is somebody else's.
    """
    from cryptography import x509  # pyright: ignore[reportMissingImports]

    chain = x509.load_pem_x509_certificates(file.read_bytes())
    for issuer in x509.load_pem_x509_certificates(authority.read_bytes()):
        try:
            chain[-1].verify_directly_issued_by(issuer)
        except Exception:  # another name, another kind of key, another signature
            continue
        return
    raise FedSepError(f"--certs: {file} was not issued by {authority}, by which sites would check it")


def require_private(file: Path) -> None:
    """Sees that a file holds a site's private key, as Flower's node program reads it.

    Raises:
        FedSepError: It holds something else.
    """
    from cryptography.hazmat.primitives.asymmetric.ec import (  # pyright: ignore[reportMissingImports]
        EllipticCurvePrivateKey,
    )
    from cryptography.hazmat.primitives.serialization import (  # pyright: ignore[reportMissingImports]
        load_ssh_private_key,
    )

    if file.suffix == ".pub":
        raise FedSepError(f"--key: {file} is a public key: name the private one, which is the file without .pub")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise FedSepError(f"--key: {file} cannot be read ({error.strerror})") from error
    try:
        key = load_ssh_private_key(content, None)
    except TypeError as error:
        raise FedSepError(f"--key: {file} has a passphrase, which Flower's node program cannot ask for") from error
    except Exception as error:  # it has many ways to say so
        raise FedSepError(
            f"--key: {file} holds no private key in OpenSSH's form (fedsep flower certs makes one)"
        ) from error
    if not isinstance(key, EllipticCurvePrivateKey):
        raise FedSepError(f"--key: {file} holds no key of an elliptic curve (fedsep flower certs makes one)")


def _alternative(host: str) -> Any:
    from cryptography import x509  # pyright: ignore[reportMissingImports]

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding  # pyright: ignore[reportMissingImports]

    return certificate.public_bytes(Encoding.PEM)


def _private(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization as s  # pyright: ignore[reportMissingImports]

    return key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())


def _ssh_private(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization as s  # pyright: ignore[reportMissingImports]

    return key.private_bytes(s.Encoding.PEM, s.PrivateFormat.OpenSSH, s.NoEncryption())


def _ssh_public(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization as s  # pyright: ignore[reportMissingImports]

    return key.public_key().public_bytes(s.Encoding.OpenSSH, s.PublicFormat.OpenSSH) + b"\n"
