"""Certificates that say nothing but "this is my key".

Theory of operation
-------------------
A peer's id is its Ed25519 public key, and TLS 1.3 proves that whoever shows a certificate holds its
key. So the certificate only has to carry the key. But Python's `ssl` gives a server its client's
certificate only when it verified it against a certificate authority, and has no hook to do otherwise.
Hence this authority: its secret key is the constant below, known to everybody. Anyone can sign a
certificate with it, and that is the point: **its signature proves nothing** and nothing trusts it.
What is trusted is the key in the leaf, compared with the peer id that was expected.
"""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime
from functools import cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import NameOID

from mosaik.primitives.digest import PeerId
from mosaik.primitives.errors import IdentityError, ProtocolViolation
from mosaik.primitives.peer import SecretKey

__all__ = ["client_context", "peer_of", "server_context"]

#: The public "secret" of the authority that proves nothing. See the theory of operation.
_AUTHORITY_SECRET: Final = b"mosaik: everyone knows this key."

# A clock that is wrong must not keep a node out, so the certificates are valid at all times.
_NOT_BEFORE: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NOT_AFTER: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


_AUTHORITY_NAME: Final = _named("mosaik peers")


@cache
def _authority() -> tuple[Ed25519PrivateKey, x509.Certificate]:
    key = Ed25519PrivateKey.from_private_bytes(_AUTHORITY_SECRET)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_AUTHORITY_NAME)
        .issuer_name(_AUTHORITY_NAME)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, None)
    )
    return key, certificate


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _leaf(secret: SecretKey) -> x509.Certificate:
    authority, issuer = _authority()
    public = secret.private_key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(_named(secret.peer.hex()))
        .issuer_name(issuer.subject)
        .public_key(public)
        .serial_number(2)
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()),
            critical=False,
        )
        .sign(authority, None)
    )


def server_context(secret: SecretKey) -> ssl.SSLContext:
    """How this node answers: TLS 1.3 only, and never without the client's certificate."""
    return _context(ssl.PROTOCOL_TLS_SERVER, secret)


def client_context(secret: SecretKey) -> ssl.SSLContext:
    """How this node dials: TLS 1.3 only, showing its own certificate."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, secret)


def _context(role: int, secret: SecretKey) -> ssl.SSLContext:
    context = ssl.SSLContext(role)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # a peer's name is its key, wherever it may be reached
    context.verify_mode = ssl.CERT_REQUIRED
    authority = _authority()[1].public_bytes(serialization.Encoding.DER)
    context.load_verify_locations(cadata=authority)
    if role == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # sessions are not resumed: each link proves both keys anew
    _load_own(context, secret)
    return context


def _load_own(context: ssl.SSLContext, secret: SecretKey) -> None:
    pem = _leaf(secret).public_bytes(serialization.Encoding.PEM)
    pem += secret.private_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    # `load_cert_chain` wants a file. This one is memory of this process alone and has no name.
    descriptor = os.memfd_create("mosaik-certificate", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    except OSError as error:
        raise IdentityError(f"the node's certificate cannot be loaded: {error}") from error
    finally:
        os.close(descriptor)


def peer_of(connection: ssl.SSLObject) -> PeerId:
    """Who is on the other side of a connection whose handshake is done.

    Raises:
        ProtocolViolation: its certificate does not carry an Ed25519 key.
    """
    encoded = connection.getpeercert(binary_form=True)
    if not encoded:
        raise ProtocolViolation("the peer showed no certificate")
    try:
        key = x509.load_der_x509_certificate(encoded).public_key()
    except ValueError as error:
        raise ProtocolViolation(f"the peer's certificate cannot be read: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ProtocolViolation(f"the peer's key is {type(key).__name__}, not Ed25519")
    return PeerId.from_bytes(key.public_bytes_raw())
