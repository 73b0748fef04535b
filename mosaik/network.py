"""One node of one network: its identity, its transport, its discovery and its groups, tied together."""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from mosaik.config import Config
from mosaik.discovery import Discovery, DiscoveryConfig
from mosaik.discovery.wire import PROTOCOL as DISCOVERY_PROTOCOL
from mosaik.primitives.digest import Digest, PeerId
from mosaik.primitives.errors import ConfigError, NetworkError
from mosaik.primitives.peer import SecretKey, SignedPeerEntry
from mosaik.transport import CloseReason, Identity, Link, TlsTransport, Transport
from mosaik.transport.address import HostPort

if TYPE_CHECKING:
    from mosaik.groups import Groups

__all__ = ["LocalNode", "Network", "TransportFactory"]

#: Makes a node's transport from its key and its network's id, as ``MemoryHub().bind`` does.
TransportFactory = Callable[[SecretKey, Digest], Transport]

Handler = Callable[[Link], None]


class LocalNode(NamedTuple):
    """This node, as others see it.

    Attributes:
        network_id: the network.
        peer: its id.
        addresses: where it can be dialled.
    """

    network_id: Digest
    peer: PeerId
    addresses: tuple[str, ...]


class Network:
    """One node of the network with this name. An asynchronous context manager.

    What is not given is taken from the environment (``MOSAIK_NETWORK__LISTEN`` and so on), from the
    file that ``MOSAIK_CONFIG`` names, or is the default.

    Args:
        name: the network's name, or its id. Nodes of other networks are refused.
        data_dir: the directory for the node's key, lock and stores. Without one, and without an
            ``identity``, the node is somebody new each time.
        identity: a key that is kept elsewhere: a key file's path, a `SecretKey`, or an `Identity`,
            which then remains the caller's to close.
        bootstrap: addresses of nodes to begin with, ``host:port``.
        listen: the address to listen on; port 0 takes a free one.
        advertise: what others shall dial, where it differs from what is listened on.
        source: the IP address to dial from, on a machine with several.
        transport: makes the transport; TLS over TCP when not given.
        discovery: limits and times of discovery.
        config: settings that were loaded already.

    Raises:
        ConfigError: there is no name, a setting is wrong, or an address is not ``host:port``.
    """

    def __init__(
        self,
        name: str | Digest | None = None,
        *,
        data_dir: str | os.PathLike[str] | None = None,
        identity: Identity | SecretKey | str | os.PathLike[str] | None = None,
        bootstrap: Iterable[str] | None = None,
        listen: str | None = None,
        advertise: Sequence[str] = (),
        source: str | None = None,
        transport: TransportFactory | None = None,
        discovery: DiscoveryConfig | None = None,
        config: Config | None = None,
    ) -> None:
        self.config = config if config is not None else Config.load()
        settings = self.config.network
        name = settings.name if name is None else name
        if not name:
            raise ConfigError(
                "the network has no name; say Network('my-app') or set [network] name"
            )
        self.name = str(name)
        self.network_id = name if isinstance(name, Digest) else Digest(name)
        directory = data_dir if data_dir is not None else settings.data_dir
        self._directory = None if directory is None else Path(directory).absolute()
        self._identity_given = identity
        self._bootstrap = _list(settings.bootstrap if bootstrap is None else bootstrap, "bootstrap")
        self._listen = listen or settings.listen or "127.0.0.1:0"
        self._advertise = _list(advertise, "advertise") or settings.advertise
        self._source = source or settings.source
        if transport is None:
            # Checked now: later a wrong address would merely never answer.
            HostPort.parse(self._listen)
            for address in (*self._bootstrap, *self._advertise):
                if HostPort.parse(address).port == 0:
                    raise ConfigError(
                        f"{address!r} cannot be dialled; name the port that is listened on"
                    )
        self._make_transport = transport or self._tls
        self._discovery_config = discovery
        self._handlers = _Handlers()
        self._running: _Running | None = None
        self._closed = False

    @classmethod
    def from_config(cls, path: str | os.PathLike[str] | None = None) -> Self:
        """The node that a file of settings describes; without a path the one in ``MOSAIK_CONFIG``.

        Raises:
            ConfigError: the file cannot be read, or a setting is wrong.
        """
        return cls(config=Config.load(path))

    @classmethod
    def from_settings(cls, config: Config) -> Self:
        """The node that loaded settings describe.

        Raises:
            ConfigError: there is no name.
        """
        return cls(config=config)

    # What it is.

    @property
    def identity(self) -> Identity:
        """Who this node is."""
        return self._started().identity

    @property
    def peer(self) -> PeerId:
        """The node's id."""
        return self._started().identity.peer

    @property
    def durable(self) -> bool:
        """Whether the same identity can return after the process has ended."""
        return self._started().identity.durable

    @property
    def data_dir(self) -> Path | None:
        """Where the node keeps its files; None when it keeps none."""
        return self._directory

    @property
    def storage_url(self) -> str | None:
        """The store that the settings name for groups that name none."""
        return self.config.storage.url

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where this node can be dialled."""
        return self._started().transport.addresses

    @property
    def local(self) -> LocalNode:
        """This node, as others see it."""
        return LocalNode(self.network_id, self.peer, self.addresses)

    @property
    def transport(self) -> Transport:
        """What makes links."""
        return self._started().transport

    def discovery(self) -> Discovery:
        """What this node knows of the others."""
        return self._started().discovery

    def groups(self) -> Groups:
        """The groups of this node; begins with ``with_key``."""
        running = self._started()
        if running.groups is None:
            from mosaik.groups import Groups

            running.groups = Groups(_GroupsNode(self, running, self._handlers))
        return running.groups

    def register(self, protocol: str, handler: Handler) -> None:
        """Hands every link that arrives for a protocol to a handler.

        The handler sets the link's callbacks, or starts a task that does, before it returns.

        Raises:
            ConfigError: the protocol has a handler.
        """
        self._handlers.add(protocol, handler)

    # Its life.

    async def start(self) -> None:
        """Opens the identity, listens, and begins to seek others. ``async with`` does it.

        Raises:
            IdentityError: the key or the data directory cannot be used.
            BindError: the address cannot be listened on.
            NetworkError: it runs, or has been closed.
        """
        if self._running is not None or self._closed:
            raise NetworkError(f"{self!r} was started before; make another Network")
        async with AsyncExitStack() as undo:
            identity = await asyncio.to_thread(self._open_identity)
            if identity is not self._identity_given:
                undo.callback(identity.close)
            transport = self._make_transport(identity.secret, self.network_id)
            undo.push_async_callback(transport.close)
            await transport.start(self._handlers.dispatch)
            discovery = Discovery(
                identity.secret,
                self.network_id,
                transport,
                bootstrap=self._bootstrap,
                config=self._discovery_config,
            )
            undo.push_async_callback(discovery.close)
            self.register(DISCOVERY_PROTOCOL, discovery.accept)
            await discovery.start()
            self._running = _Running(identity, transport, discovery, undo.pop_all())

    async def close(self) -> None:
        """Pauses the groups, says goodbye, and releases everything. Closing twice does nothing."""
        running, self._running = self._running, None
        self._closed = True
        if running is not None:
            await running.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        running: _Running | None = getattr(self, "_running", None)
        if running is not None:
            warnings.warn(
                f"{self!r} was not closed; use 'async with'", ResourceWarning, stacklevel=2
            )
            running.abandon()

    def __repr__(self) -> str:
        if self._running is None:
            state = "closed" if self._closed else "not started"
        else:
            state = f"{self.peer.short} at {', '.join(self.addresses)}"
        return f"<Network {self.name!r} {state}>"

    def _started(self) -> _Running:
        if self._running is None:
            state = "is closed" if self._closed else "does not run yet; use 'async with'"
            raise NetworkError(f"the network {self.name!r} {state}")
        return self._running

    def _open_identity(self) -> Identity:
        given = self._identity_given
        if isinstance(given, Identity):
            return given
        if given is None or isinstance(given, SecretKey):
            secret = given
        else:
            secret = Identity.from_key_file(given).secret
        if self._directory is not None:
            return Identity.in_directory(self._directory, secret=secret)
        return Identity.ephemeral() if secret is None else Identity.from_secret(secret)

    def _tls(self, secret: SecretKey, network: Digest) -> Transport:
        return TlsTransport(
            secret,
            network,
            listen=self._listen,
            advertise=self._advertise,
            source=self._source,
        )


def _list(addresses: Iterable[str], name: str) -> tuple[str, ...]:
    if isinstance(addresses, str):
        raise ConfigError(
            f"{name} takes a list of addresses, such as [{addresses!r}], not one string"
        )
    return tuple(addresses)


class _Handlers:
    """Who takes which links. Holds no `Network`, so that a forgotten one can be collected."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    def add(self, protocol: str, handler: Handler) -> None:
        if protocol in self._handlers:
            raise ConfigError(f"{protocol!r} has a handler")
        self._handlers[protocol] = handler

    def dispatch(self, link: Link) -> None:
        handler = self._handlers.get(link.protocol)
        if handler is None:
            link.close(CloseReason.INVALID_PROTOCOL, f"nobody here speaks {link.protocol!r}")
            return
        try:
            handler(link)
        except Exception as error:  # noqa: BLE001 - one bad link must not stop the listener
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"accepting {link!r} failed", "exception": error}
            )
            link.close(CloseReason.UNEXPECTED_CLOSE, "internal error")


class _GroupsNode:
    """The node as its groups see it. Holds no `Network` either."""

    def __init__(self, network: Network, running: _Running, handlers: _Handlers) -> None:
        self.peer: Final = running.identity.peer
        self.network_id: Final = network.network_id
        self.durable: Final = running.identity.durable
        self.data_dir: Final = network.data_dir
        self.storage_url: Final = network.storage_url
        self.consensus: Final = network.config.consensus.settings()
        self._discovery = running.discovery
        self._transport = running.transport
        self.accept: Final = handlers.add

    def entry(self) -> SignedPeerEntry:
        return self._discovery.catalog().local()

    def members(self, group: Digest) -> Iterable[SignedPeerEntry]:
        return self._discovery.catalog().members(group)

    def feed(self, entry: SignedPeerEntry) -> None:
        self._discovery.feed(entry)

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        return self._discovery.watch(lambda _: changed())

    def add_group(self, group: Digest) -> None:
        self._discovery.add_groups(group)

    def remove_group(self, group: Digest) -> None:
        self._discovery.remove_groups(group)

    async def dial(self, address: str, peer: PeerId, timeout: float) -> Link:
        from mosaik.groups.wire import PROTOCOL

        return await self._transport.dial(address, PROTOCOL, expect=peer, timeout=timeout)


class _Running:
    """What a started network holds."""

    def __init__(
        self,
        identity: Identity,
        transport: Transport,
        discovery: Discovery,
        resources: AsyncExitStack,
    ) -> None:
        self.identity = identity
        self.transport = transport
        self.discovery = discovery
        self.groups: Groups | None = None
        self._resources = resources
        self._loop = asyncio.get_running_loop()
        _open.add(self)

    async def close(self) -> None:
        try:
            if self.groups is not None:
                await self.groups.close()
        finally:
            await self._resources.aclose()
            _open.discard(self)

    def abandon(self) -> None:
        """Closes what a forgotten network left behind, if its loop still runs."""
        if self._loop.is_running():
            self._loop.call_soon_threadsafe(_close_in_background, self)
        else:
            self.identity.close()
            _open.discard(self)


#: Keeps what a forgotten network must still close from being collected together with it.
_open: set[_Running] = set()
_closing: set[asyncio.Task[None]] = set()


def _close_in_background(running: _Running) -> None:
    task = asyncio.get_running_loop().create_task(running.close(), name="mosaik abandoned network")
    _closing.add(task)  # the loop itself holds tasks only weakly
    task.add_done_callback(_closing.discard)
