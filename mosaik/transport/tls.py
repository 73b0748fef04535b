"""The default transport: TLS 1.3 over TCP, each side proven by its Ed25519 key.

Theory of operation
-------------------
TLS proves the keys (see `certificates`). Then the dialling side says hello: network, protocol, a fresh
nonce. The answering side closes with 101 when the network is another one, without naming its own, and
otherwise answers with its own nonce. From both nonces follows the link's `binding`.

In TLS 1.3 a client is done before the server has looked at the client's certificate, so it is the
answered hello, not the end of the handshake, that makes a link.

Strangers are cheap, so what they can hold is bounded: a time limit for handshake and hello together,
and `MAX_HALF_OPEN` of them at a time. When there are more, the oldest goes: an honest
handshake takes milliseconds, so the oldest are those that stall. Known peers are bounded too, in total
and each.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Final

from mosaik.primitives.digest import Digest, PeerId
from mosaik.primitives.errors import (
    BindError,
    ConfigError,
    DialError,
    LinkClosed,
    ProtocolViolation,
)
from mosaik.primitives.peer import SecretKey
from mosaik.transport.address import HostPort, own_host, require_own
from mosaik.transport.certificates import client_context, peer_of, server_context
from mosaik.transport.connection import Connection
from mosaik.transport.contract import MAX_FIRST_FRAME, MAX_FRAME, CloseReason, Link
from mosaik.transport.frames import DATA, Hello, binding_of
from mosaik.transport.link import BaseLink
from mosaik.transport.listener import Listener
from mosaik.transport.quiet import QuietLog

__all__ = ["TlsLink", "TlsTransport"]

#: Connections that have not said hello yet.
MAX_HALF_OPEN: Final = 64
#: Seconds for TLS handshake and hello together.
HANDSHAKE_TIMEOUT: Final = 5.0
#: Links in total, and with one peer.
MAX_LINKS: Final = 4096
MAX_LINKS_PER_PEER: Final = 256
#: Seconds that TLS may take to say goodbye; the peer's close frame has said it already.
SHUTDOWN_TIMEOUT: Final = 1.0
#: Received bytes that may wait for a reader before the sender is held back.
MAX_UNREAD: Final = 1024 * 1024

log = logging.getLogger("mosaik.transport")
_quiet: Final = QuietLog(log)


class TlsLink(BaseLink):
    """A link over one TLS connection. Made by `TlsTransport`."""

    def __init__(
        self,
        connection: Connection,
        remote: PeerId,
        protocol: str,
        initiator: bool,
        binding: bytes,
    ) -> None:
        super().__init__(remote, protocol, initiator, binding)
        self._connection = connection
        self._unread = 0
        if not initiator:
            connection.limit_frames(MAX_FIRST_FRAME)

    @property
    def backlog(self) -> int:
        """Bytes handed to `send` and not yet to the kernel."""
        return self._connection.backlog

    def send(self, frame: bytes) -> None:
        """Queues a frame. Does nothing on a closed link.

        Raises:
            FrameTooLarge: it exceeds `MAX_FRAME`.
        """
        if self._end is not None:
            return
        self.check_size(frame)
        if not self._connection.send(DATA, frame):
            _quiet.warning("%s (%s) is too slow and was cut off", self.remote.short, self.protocol)
            self._stopped = True
            self._ended(CloseReason.TOO_MANY, "the peer is too slow", died=False)

    def close(self, code: int = CloseReason.SUCCESS, reason: str = "") -> None:
        """Sends what is queued, then why, and ends the link."""
        if self._end is None:
            self._stopped = True
            self._connection.close(code, reason)
            self._ended(code, reason, died=False)

    def _listened(self) -> None:
        self._connection.limit_frames(MAX_FRAME)

    # What the connection calls.

    def arrived(self, frame: bytes) -> None:
        """A frame came."""
        self._deliver(frame)

    def failed(self, error: Exception) -> None:
        """A frame could not be handled."""
        self._handler_failed(error)

    def ended(self, code: int, reason: str, died: bool) -> None:
        """The other side closed, or its socket did."""
        self._ended(code, reason, died)

    # A reader that does not read holds the sender back.

    def _queued(self, size: int) -> None:
        was, self._unread = self._unread, self._unread + size
        if was <= MAX_UNREAD < self._unread:
            self._connection.transport.pause_reading()

    def _dequeued(self, size: int) -> None:
        was, self._unread = self._unread, self._unread - size
        if self._unread <= MAX_UNREAD < was and not self._connection.lost.done():
            self._connection.transport.resume_reading()


def _ip(source: str) -> str:
    try:
        return str(ip_address(source))
    except ValueError as error:
        raise ConfigError(
            f"{source!r} cannot be dialled from: write an IP address of this machine, without a port"
        ) from error


class TlsTransport:
    """Dials and accepts links over TLS 1.3.

    Args:
        secret: this node's key.
        network: the network's id; nobody of another one gets past the hello.
        listen: ``host:port``; port 0 takes a free one.
        advertise: what others shall dial, where that is not the address listened on.
        source: the IP address to dial from; the system chooses when not given.

    Raises:
        ConfigError: an address is none.
    """

    def __init__(
        self,
        secret: SecretKey,
        network: Digest,
        *,
        listen: str = "127.0.0.1:0",
        advertise: Sequence[str] = (),
        source: str | None = None,
    ) -> None:
        self.peer: Final = secret.peer
        self._network = network
        self._listen = HostPort.parse(listen)
        self._source = None if source is None else (_ip(source), 0)
        self._addresses = tuple(str(HostPort.parse(address)) for address in advertise)
        self._server_context = server_context(secret)
        self._client_context = client_context(secret)
        self._quiet = QuietLog(log)
        self._accept: Callable[[Link], None] = _refuse
        self._listener: Listener | None = None
        self._half_open: dict[asyncio.Task[None], None] = {}
        self._connections: dict[Connection, PeerId] = {}
        self._count: Counter[PeerId] = Counter()

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where this node can be dialled, after `start`."""
        return self._addresses

    async def start(self, accept: Callable[[Link], None]) -> None:
        """Listens; ``accept`` is called with every authenticated link that arrives.

        Raises:
            BindError: the address is in use, or not this machine's; or ``source`` is not.
            ConfigError: listening everywhere, and no address to tell others was found.
        """
        self._accept = accept
        if self._source is not None:
            # Now: later every dial would fail, and the node would merely stay alone.
            require_own(self._source[0])
        listener = await _listening_socket(self._listen)
        port = int(listener.getsockname()[1])
        if not self._addresses:
            host = self._listen.host
            try:
                host = own_host(host) if self._listen.is_wildcard else host
            except ConfigError:
                listener.close()
                raise
            self._addresses = (str(HostPort(host, port)),)
        self._listener = Listener(listener, self._begin, self._not_accepted)

    async def close(self) -> None:
        """Ends every link and stops listening."""
        if self._listener is not None:
            self._listener.close()
        tasks = list(self._half_open)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for connection in list(self._connections):
            if connection.receiver is not None:
                connection.receiver.ended(
                    CloseReason.GRACEFUL_SHUTDOWN, "this node shut down", False
                )
            connection.close(CloseReason.GRACEFUL_SHUTDOWN, "the node shut down")
        lost = [connection.lost for connection in self._connections]
        if lost:  # a connection aborts itself after its linger, and TLS after its own
            await asyncio.wait(lost)

    # Accepting.

    def _not_accepted(self, error: OSError) -> None:
        self._quiet.warning("cannot accept a connection: %s", error)

    def _begin(self, stranger: socket.socket) -> None:
        if len(self._half_open) >= MAX_HALF_OPEN:
            oldest = next(iter(self._half_open))
            del self._half_open[oldest]
            oldest.cancel()
            self._quiet.warning("more than %d half-open connections", MAX_HALF_OPEN)
        connection = Connection(self._greeted)
        task = asyncio.create_task(self._admit(stranger, connection), name="mosaik handshake")
        self._half_open[task] = None

        def done(_: asyncio.Task[None]) -> None:
            self._half_open.pop(task, None)
            if not connection.connected:  # else the socket is the event loop's to close
                stranger.close()

        task.add_done_callback(done)

    async def _admit(self, stranger: socket.socket, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT):
                await loop.connect_accepted_socket(
                    lambda: connection,
                    stranger,
                    ssl=self._server_context,
                    ssl_handshake_timeout=HANDSHAKE_TIMEOUT,
                    ssl_shutdown_timeout=SHUTDOWN_TIMEOUT,
                )
                await connection.established
        except TimeoutError:
            self._quiet.warning("%s stalled in the handshake", connection.peername)
            connection.abort()
        except (OSError, LinkClosed) as error:  # ssl.SSLError is an OSError
            self._quiet.warning("%s was not admitted: %s", connection.peername, error)
        except asyncio.CancelledError:
            connection.abort()
            raise

    def _greeted(self, connection: Connection, body: bytes) -> TlsLink:
        """Someone dialled and said hello: answers, and hands the link to the node."""
        theirs, remote = _parse(connection, body)
        if theirs.network != self._network:
            raise LinkClosed(CloseReason.DIFFERENT_NETWORK, "this node is of another network")
        if remote == self.peer:
            raise LinkClosed(CloseReason.NOT_ALLOWED, "a node does not speak to itself")
        if len(self._connections) >= MAX_LINKS or self._count[remote] >= MAX_LINKS_PER_PEER:
            raise LinkClosed(CloseReason.TOO_MANY, "too many links")
        ours = Hello.fresh(self._network, theirs.protocol)
        connection.write(ours.frame())
        binding = binding_of(remote, self.peer, theirs, ours)
        link = TlsLink(connection, remote, theirs.protocol, False, binding)
        self._keep(connection, remote)
        self._accept(link)
        return link

    # Dialling.

    async def dial(
        self, address: str, protocol: str, *, expect: PeerId | None = None, timeout: float = 5.0
    ) -> Link:
        """Connects to whoever listens at an address.

        Raises:
            DialError: nobody, or somebody else, answered in time.
        """
        try:
            target = HostPort.parse(address)
        except ConfigError as error:
            raise DialError(str(error)) from error
        links: list[TlsLink] = []
        ours = Hello.fresh(self._network, protocol)

        def answered(connection: Connection, body: bytes) -> TlsLink:
            link = self._answered(connection, body, ours)
            links.append(link)
            return link

        connection = Connection(answered)
        try:
            async with asyncio.timeout(timeout):
                await self._connect(connection, target, timeout)
                self._check_who(connection, address, expect)
                connection.write(ours.frame())
                await connection.established
        except (TimeoutError, OSError, LinkClosed, ProtocolViolation) as error:
            connection.abort()
            why = str(error) or type(error).__name__
            if isinstance(error, TimeoutError):
                why = f"no answer within {timeout:g} s"
            raise DialError(f"{address} could not be reached for {protocol}: {why}") from error
        except BaseException:
            connection.abort()
            raise
        return links[0]

    async def _connect(self, connection: Connection, target: HostPort, timeout: float) -> None:
        await asyncio.get_running_loop().create_connection(
            lambda: connection,
            target.host,
            target.port,
            ssl=self._client_context,
            server_hostname="",  # names prove nothing here, so none is sent
            ssl_handshake_timeout=timeout,
            ssl_shutdown_timeout=SHUTDOWN_TIMEOUT,
            local_addr=self._source,
        )

    def _check_who(self, connection: Connection, address: str, expect: PeerId | None) -> None:
        remote = _remote(connection)
        if remote == self.peer:
            raise DialError(f"{address} is this node itself")
        if expect is not None and remote != expect:
            raise DialError(f"{remote.short} answered at {address}, not {expect.short}")

    def _answered(self, connection: Connection, body: bytes, ours: Hello) -> TlsLink:
        theirs, remote = _parse(connection, body)
        if theirs.network != ours.network or theirs.protocol != ours.protocol:
            raise LinkClosed(CloseReason.PROTOCOL_VIOLATION, "the hello answers another one")
        binding = binding_of(self.peer, remote, ours, theirs)
        self._keep(connection, remote)
        return TlsLink(connection, remote, ours.protocol, True, binding)

    def _keep(self, connection: Connection, remote: PeerId) -> None:
        self._connections[connection] = remote
        self._count[remote] += 1

        def forget(_: asyncio.Future[None]) -> None:
            del self._connections[connection]
            self._count[remote] -= 1
            if not self._count[remote]:
                del self._count[remote]

        connection.lost.add_done_callback(forget)


def _refuse(link: Link) -> None:
    link.close(CloseReason.CANCELLED, "not listening")


def _remote(connection: Connection) -> PeerId:
    return peer_of(connection.transport.get_extra_info("ssl_object"))


def _parse(connection: Connection, body: bytes) -> tuple[Hello, PeerId]:
    try:
        return Hello.parse(body), _remote(connection)
    except ProtocolViolation as error:
        raise LinkClosed(CloseReason.PROTOCOL_VIOLATION, str(error)) from error


async def _listening_socket(address: HostPort) -> socket.socket:
    loop = asyncio.get_running_loop()
    listener: socket.socket | None = None
    try:
        found = await loop.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, where = found[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind(where)
        listener.listen(1024)
    except OSError as error:
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.close()
        raise BindError(
            f"cannot listen on {address}: {error.strerror}; stop whoever uses it, choose another "
            "address with listen='HOST:PORT', or let the system choose a port with port 0"
        ) from error
    return listener
