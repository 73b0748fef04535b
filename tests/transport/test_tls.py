"""The TLS transport: servers that are not what they should be, death, slowness, secrets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
from collections.abc import AsyncGenerator

import pytest

from mosaik.primitives.digest import Digest, PeerId
from mosaik.primitives.errors import BindError, ConfigError, DialError, LinkClosed
from mosaik.primitives.peer import SecretKey
from mosaik.transport import CloseReason, Link, TlsTransport, certificates, connection, tls
from mosaik.transport.contract import MAX_FIRST_FRAME
from mosaik.transport.frames import HEADER, HELLO, Hello, close_frame
from tests.transport.echo import NETWORK, SECRET, Node, client_context, hello


async def test_links_are_bounded_per_peer(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "MAX_LINKS_PER_PEER", 2)
    client = TlsTransport(SecretKey.generate(), NETWORK)
    address = node.transport.addresses[0]
    links = [await client.dial(address, "echo") for _ in range(2)]
    with pytest.raises(DialError, match="too many links"):
        await client.dial(address, "echo")
    await node.serves()
    links[0].close()
    while node.transport._count[client.peer] == 2:
        await asyncio.sleep(0)
    await client.dial(address, "echo")
    await client.close()


# Servers that are not what they should be.


@contextlib.asynccontextmanager
async def answering(context: ssl.SSLContext | None, answer: bytes) -> AsyncGenerator[str]:
    """A server that answers whatever it is sent with the same bytes; gives its address."""
    served: dict[asyncio.StreamWriter, asyncio.Task[object] | None] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served[writer] = asyncio.current_task()
        with contextlib.suppress(OSError):
            if answer:
                await reader.read(1000)
                writer.write(answer)
            while await reader.read(1000):
                pass

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    await server.wait_closed()
    for writer, task in served.items():
        writer.transport.abort()
        if task is not None:
            await asyncio.wait([task])


def reply_of_another_protocol() -> bytes:
    return Hello.fresh(NETWORK, "other").frame()


@pytest.mark.parametrize(
    ("answer", "with_tls"),
    [
        (b"SSH-2.0-x\r\n", False),
        (b"", False),
        (b"", True),
        (b"\x00" * 500, True),
        (HEADER.pack(1 << 31, HELLO), True),
        (reply_of_another_protocol(), True),
        (close_frame(401, "no"), True),
    ],
)
async def test_a_server_that_answers_nonsense_or_nothing(answer: bytes, with_tls: bool) -> None:
    context = certificates.server_context(SecretKey.generate()) if with_tls else None
    client = TlsTransport(SecretKey.generate(), NETWORK)
    async with answering(context, answer) as address:
        with pytest.raises(DialError, match="could not be reached"):
            await client.dial(address, "echo", timeout=0.3)
        await client.close()


async def test_a_dial_that_is_cancelled_leaves_nothing_behind() -> None:
    client = TlsTransport(SecretKey.generate(), NETWORK)
    async with answering(None, b"") as address:
        task = asyncio.create_task(client.dial(address, "echo"))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await client.close()


async def test_a_node_does_not_dial_itself(node: Node) -> None:
    with pytest.raises(DialError, match="is this node itself"):
        await node.transport.dial(node.transport.addresses[0], "echo")


@pytest.mark.parametrize("address", ["", "nonsense", "host:", ":1", "h:65536", "::1:80", "h:-1"])
async def test_an_address_that_is_none(address: str) -> None:
    client = TlsTransport(SecretKey.generate(), NETWORK)
    with pytest.raises(DialError, match="is not an address"):
        await client.dial(address, "echo")
    with pytest.raises(ConfigError, match="is not an address"):
        TlsTransport(SecretKey.generate(), NETWORK, listen=address)


async def test_an_address_of_another_machine() -> None:
    foreign = TlsTransport(SecretKey.generate(), NETWORK, listen="192.0.2.1:0")
    with pytest.raises(BindError, match="Cannot assign requested address"):
        await foreign.start(lambda link: None)


# Death, and slowness.


def ending(link: Link) -> asyncio.Future[tuple[int, bool]]:
    ended: asyncio.Future[tuple[int, bool]] = asyncio.get_running_loop().create_future()

    def on_close(code: int, reason: str, died: bool) -> None:
        ended.set_result((code, died))

    link.on_close = on_close
    return ended


async def test_a_peer_that_dies_is_told_from_one_that_closes(node: Node) -> None:
    client = TlsTransport(SecretKey.generate(), NETWORK)
    for dies in (True, False):
        link = await client.dial(node.transport.addresses[0], "echo")
        ended = ending(node.links[-1])
        if dies:
            # As the kernel does for a process that was killed: the socket goes, without a word.
            link._connection.transport.abort()  # type: ignore[attr-defined]  # a TlsLink
        else:
            link.close()
        assert await ended == ((103, True) if dies else (200, False))
    await client.close()


async def test_a_peer_that_does_not_read_is_cut_off(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection, "MAX_BACKLOG", 8 << 20)
    stranger = await node.raw(client_context())
    stranger.writer.write(hello())
    await stranger.reader.readexactly(len(hello()))
    link = node.links[0]
    for _ in range(200):
        link.send(bytes(1 << 20))
        await asyncio.sleep(0)
        if link.closed:
            break
    assert link.closed
    assert "too slow" in caplog.text
    stranger.writer.transport.abort()
    await node.serves()


@pytest.mark.parametrize("lingers", [True, False], ids=["", "with the planted bug"])
async def test_a_peer_that_does_not_read_keeps_no_closed_link(
    node: Node, monkeypatch: pytest.MonkeyPatch, lingers: bool
) -> None:
    """What was queued is sent before the end, but not waited for without end."""
    monkeypatch.setattr(connection, "LINGER", 0.1 if lingers else 1e9)
    stranger = await node.raw(client_context())
    stranger.writer.write(hello())
    await stranger.reader.readexactly(len(hello()))
    link = node.links[0]
    link.send(bytes(16 << 20))
    assert isinstance(link, tls.TlsLink)
    lost = link._connection.lost
    link.close()
    done, _ = await asyncio.wait([lost], timeout=5.0 if lingers else 0.5)
    assert bool(done) == lingers
    stranger.writer.transport.abort()
    await lost


async def test_a_node_that_does_not_read_holds_the_sender_back(node: Node) -> None:
    links: list[Link] = []
    server = TlsTransport(SecretKey.generate(), NETWORK)
    await server.start(links.append)
    client = TlsTransport(SecretKey.generate(), NETWORK)
    link = await client.dial(server.addresses[0], "p")
    for _ in range(128):
        link.send(bytes(MAX_FIRST_FRAME))
    while link.backlog > 30 << 20:
        await asyncio.sleep(0.001)
    for _ in range(200):
        await asyncio.sleep(0)
    assert link.backlog > 8 << 20, "nobody reads, so most of it must wait at the sender"
    for _ in range(128):
        assert len(await links[0].receive(5)) == MAX_FIRST_FRAME
    await client.close()
    await server.close()


# Secrets.


def test_the_private_key_touches_no_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    original = ssl.SSLContext.load_cert_chain

    def record(context: ssl.SSLContext, path: str) -> None:
        loaded.append(path)
        original(context, path)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", record)
    certificates.client_context(SecretKey.generate())
    assert [path.startswith("/proc/self/fd/") for path in loaded] == [True]


def test_a_certificate_is_valid_at_any_time_and_the_same_everywhere() -> None:
    assert certificates._leaf(SECRET) == certificates._leaf(SECRET)
    assert certificates._leaf(SECRET).not_valid_before_utc.year == 1970
    assert certificates._leaf(SECRET).not_valid_after_utc.year == 9999


def binding(**changes: bytes) -> Digest:
    from mosaik.transport.frames import binding_of

    parts = {"a": bytes(32), "b": b"b" * 32, "n1": b"1" * 32, "n2": b"2" * 32, "net": b"n" * 32}
    parts |= changes
    ours, theirs = Hello(parts["net"], parts["n1"], "p"), Hello(parts["net"], parts["n2"], "p")
    return binding_of(PeerId.from_bytes(parts["a"]), PeerId.from_bytes(parts["b"]), ours, theirs)


@pytest.mark.parametrize("part", ["a", "b", "n1", "n2", "net"])
def test_everything_about_a_link_is_in_its_binding(part: str) -> None:
    assert binding() != binding(**{part: b"x" * 32})


def test_a_listener_socket_is_closed_when_it_cannot_listen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BindError, match=f"127.0.0.1:{port}"):
            asyncio.run(TlsTransport(SECRET, NETWORK, listen=f"127.0.0.1:{port}").start(print))


# The same with the bugs that these tests are there for.


class Trusting(TlsTransport):
    """The planted bugs: whoever answers is taken for whom we dialled; any network is ours."""

    def _check_who(
        self, connection: connection.Connection, address: str, expect: PeerId | None
    ) -> None: ...

    def _greeted(self, connection: connection.Connection, body: bytes) -> tls.TlsLink:
        theirs, _ = tls._parse(connection, body)
        self._network = Digest.from_bytes(theirs.network)
        return super()._greeted(connection, body)


async def test_without_the_check_somebody_else_would_be_believed(node: Node) -> None:
    client = Trusting(SecretKey.generate(), NETWORK)
    somebody = SecretKey.generate().peer
    link = await client.dial(node.transport.addresses[0], "echo", expect=somebody)
    assert link.remote != somebody
    await client.close()


async def test_without_the_check_another_network_would_get_in() -> None:
    links: list[Link] = []
    server = Trusting(SecretKey.generate(), NETWORK)
    await server.start(links.append)
    client = TlsTransport(SecretKey.generate(), Digest("elsewhere"))
    await client.dial(server.addresses[0], "echo")
    assert len(links) == 1
    await client.close()
    await server.close()


# Nobody listens yet.


@pytest.mark.parametrize("listens", [False, True])
async def test_a_link_that_nobody_listens_to_takes_small_frames_only(listens: bool) -> None:
    """Until a handshake is done, a peer may not ask for 20 MiB of memory on each of its links."""
    arrived: asyncio.Future[Link] = asyncio.get_running_loop().create_future()
    got: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def take(frame: bytes) -> None:
        got.set_result(len(frame))

    def accept(link: Link) -> None:
        if listens:
            link.on_frame = take
        arrived.set_result(link)

    server = TlsTransport(SecretKey.generate(), NETWORK)
    client = TlsTransport(SecretKey.generate(), NETWORK)
    await server.start(accept)
    try:
        link = await client.dial(server.addresses[0], "test/1")
        link.send(bytes(MAX_FIRST_FRAME + 1))
        if listens:
            assert await got == MAX_FIRST_FRAME + 1
        else:
            with pytest.raises(LinkClosed) as error:
                await link.receive(5.0)
            assert error.value.code == CloseReason.PROTOCOL_VIOLATION
            assert (await arrived).closed
    finally:
        await client.close()
        await server.close()


@pytest.mark.parametrize("source", ["10.0.0.1:80", "localhost", ""])
def test_what_is_no_address_cannot_be_dialled_from(source: str) -> None:
    with pytest.raises(ConfigError, match="write an IP address of this machine, without a port"):
        TlsTransport(SecretKey.generate(), Digest("n"), source=source)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere 127.0.0.1 alone is this machine's")
@pytest.mark.parametrize(("source", "seen"), [("127.0.1.7", "127.0.1.7"), (None, "127.0.0.1")])
async def test_a_node_dials_from_the_address_it_was_given(
    node: Node, source: str | None, seen: str
) -> None:
    client = TlsTransport(SecretKey.generate(), NETWORK, source=source)
    await client.dial(node.transport.addresses[0], "echo")
    (connection,) = client._connections
    assert connection.transport.get_extra_info("sockname")[0] == seen
    await client.close()
