"""Strangers and enemies at the door of the TLS transport: each is refused, none is waited for."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mosaik.primitives.digest import Digest
from mosaik.primitives.peer import SecretKey
from mosaik.transport import CloseReason, Link, certificates, connection, tls
from mosaik.transport.frames import DATA, HEADER, HELLO, close_frame
from tests.transport.echo import NETWORK, Node, client_context, hello, refusal

# Strangers without TLS.


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", bytes(5), b"\xff" * 70_000])
async def test_a_client_that_speaks_no_tls(
    node: Node, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = await node.raw()
    stranger.writer.write(garbage)
    if garbage == bytes(5):
        stranger.writer.write_eof()
    await stranger.end()
    assert node.links == []
    assert "was not admitted" in caplog.text
    await node.serves()


async def test_who_stalls_before_tls_is_closed(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tls, "HANDSHAKE_TIMEOUT", 0.05)
    stranger = await node.raw()
    await stranger.end()
    assert "stalled in the handshake" in caplog.text or "was not admitted" in caplog.text
    await node.serves()


async def test_half_open_connections_are_bounded(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tls, "MAX_HALF_OPEN", 4)
    flood = [await node.raw() for _ in range(12)]
    await asyncio.gather(*(stranger.end() for stranger in flood[:8]))  # the oldest were thrown out
    assert "half-open" in caplog.text
    await node.serves()
    for stranger in flood[8:]:
        stranger.writer.transport.abort()


async def test_without_the_bound_a_flood_is_kept(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted bug: no bound, and every half-open connection costs memory until it times out."""
    monkeypatch.setattr(tls, "MAX_HALF_OPEN", 1 << 30)
    flood = [await node.raw() for _ in range(12)]
    while len(node.transport._half_open) < 12:
        await asyncio.sleep(0)
    for stranger in flood:
        stranger.writer.transport.abort()


# Strangers with TLS and without the right certificate.


async def test_a_client_without_a_certificate(node: Node) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    stranger = await node.raw(context)
    stranger.writer.write(hello())
    assert await stranger.end() == b""
    assert node.links == []
    await node.serves()


def self_signed(
    tmp_path: Path, key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey, *, by_authority: bool
) -> ssl.SSLContext:
    authority, issuer = certificates._authority()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(certificates._named("me"))
        .issuer_name(issuer.subject if by_authority else certificates._named("me"))
        .public_key(key.public_key())
        .serial_number(3)
        .not_valid_before(certificates._NOT_BEFORE)
        .not_valid_after(certificates._NOT_AFTER)
    )
    if by_authority:
        signed = certificate.sign(authority, None)
    elif isinstance(key, Ed25519PrivateKey):
        signed = certificate.sign(key, None)
    else:
        signed = certificate.sign(key, hashes.SHA256())
    from cryptography.hazmat.primitives import serialization as s

    path = tmp_path / "pair.pem"
    path.write_bytes(
        signed.public_bytes(s.Encoding.PEM)
        + key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(path)
    return context


async def test_a_certificate_of_another_authority(node: Node, tmp_path: Path) -> None:
    stranger = await node.raw(
        self_signed(tmp_path, Ed25519PrivateKey.generate(), by_authority=False)
    )
    stranger.writer.write(hello())
    assert await stranger.end() == b""
    assert node.links == []
    await node.serves()


async def test_a_key_that_is_no_peer_id(node: Node, tmp_path: Path) -> None:
    """The public authority signs anything, so a certificate may carry any key: only Ed25519 names a peer."""
    key = ec.generate_private_key(ec.SECP256R1())
    stranger = await node.raw(self_signed(tmp_path, key, by_authority=True))
    stranger.writer.write(hello())
    assert refusal(await stranger.end()) == CloseReason.PROTOCOL_VIOLATION
    assert node.links == []
    await node.serves()


async def test_nobody_can_show_a_certificate_without_its_key(tmp_path: Path) -> None:
    """TLS refuses a certificate whose secret key the client does not hold; so ids cannot be borrowed."""
    from cryptography.hazmat.primitives import serialization as s

    victim, thief = SecretKey.generate(), SecretKey.generate()
    path = tmp_path / "stolen.pem"
    path.write_bytes(
        certificates._leaf(victim).public_bytes(s.Encoding.PEM)
        + thief.private_key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
    )
    with pytest.raises(ssl.SSLError, match=r"KEY_VALUES_MISMATCH|key values mismatch"):
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(path)


async def test_older_tls_is_refused(node: Node) -> None:
    context = client_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await node.raw(context)
    await node.serves()


# Strangers with a good certificate and a bad hello.


@pytest.mark.parametrize(
    "first",
    [
        b"\x00" * 4096,
        b"GET / HTTP/1.1\r\n\r\n" * 100,
        HEADER.pack(20 << 20, DATA),
        HEADER.pack(0xFFFFFFFF, HELLO),
        HEADER.pack(4, DATA) + b"data",
        HEADER.pack(10, HELLO) + bytes(10),
        hello().replace(b"MSK\x01", b"MSK\x02"),
        hello()[:9] + b"\x00\x09" + hello()[11:],
        hello()[:-63] + b"\xff" * 63,
        hello() + hello(),
    ],
)
async def test_garbage_where_the_hello_belongs(node: Node, first: bytes) -> None:
    stranger = await node.raw(client_context())
    stranger.writer.write(first)
    data = await stranger.end()
    assert data, "the stranger is told why"
    await node.serves()


async def test_an_oversized_header_is_refused_before_anything_is_kept(node: Node) -> None:
    stranger = await node.raw(client_context())
    stranger.writer.write(hello() + HEADER.pack(21 << 20, DATA))
    data = await stranger.end()
    answer = len(hello())
    assert refusal(data[answer:]) == CloseReason.PROTOCOL_VIOLATION
    assert node.links[0].closed
    await node.serves()


async def test_garbage_after_the_hello(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    stranger = await node.raw(client_context())
    stranger.writer.write(hello() + HEADER.pack(3, 77) + b"abc")
    data = await stranger.end()
    assert refusal(data[len(hello()) :]) == CloseReason.PROTOCOL_VIOLATION
    assert "broke the protocol: a frame of kind 77" in caplog.text
    await node.serves()


async def test_another_network_learns_nothing(node: Node) -> None:
    stranger = await node.raw(client_context())
    stranger.writer.write(hello(Digest("elsewhere")))
    data = await stranger.end()
    assert refusal(data) == CloseReason.DIFFERENT_NETWORK
    assert bytes(NETWORK) not in data
    assert node.links == []
    await node.serves()


async def test_who_stalls_before_the_hello_is_closed(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tls, "HANDSHAKE_TIMEOUT", 0.2)
    stranger = await node.raw(client_context())
    stranger.writer.write(hello()[:20])
    await stranger.end()
    assert "stalled in the handshake" in caplog.text
    await node.serves()


async def test_a_close_frame_of_any_content(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    stranger = await node.raw(client_context())
    stranger.writer.write(close_frame(7, "\x1b[31mred\nalert\x00"))
    await stranger.end()
    assert "?[31mred?alert?" in caplog.text
    assert "\x1b" not in caplog.text


# The same with the bugs that these tests are there for.


async def test_without_the_limit_an_oversized_frame_would_be_gathered(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted bug: a frame's length is believed. The node would gather up to 4 GiB."""
    monkeypatch.setattr(tls, "MAX_FRAME", 1 << 32)
    stranger = await node.raw(client_context())
    stranger.writer.write(hello() + HEADER.pack(0xFFFFFFFF, DATA) + bytes(1 << 20))
    await stranger.reader.readexactly(len(hello()))
    while sum(map(len, connection_of(node.links[0])._parts)) < 1 << 20:
        await asyncio.sleep(0)
    assert not node.links[0].closed
    stranger.writer.transport.abort()


def connection_of(link: Link) -> connection.Connection:
    assert isinstance(link, tls.TlsLink)
    return link._connection
