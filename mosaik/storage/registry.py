"""From a name or URL to an opened store: backends are entry points, ours like anybody's.

Only the entry point that a URL names is loaded. Two distributions that offer one scheme are an error
that names both: a log must not move to another backend because a package was installed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, MetadataPathFinder, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import msgspec

from mosaik.primitives.digest import DIGEST_SIZE
from mosaik.primitives.errors import ConfigError, StorageUnavailable, UnknownScheme
from mosaik.primitives.nearest import did_you_mean
from mosaik.storage.contract import Storage, StorageEnvironment
from mosaik.storage.plugin import API_VERSION, ENTRY_POINTS, AnyPlugin, Schema
from mosaik.storage.url import StorageURL, check_option_names, option_names, read_options

__all__ = [
    "Backend",
    "examine_storage",
    "list_backends",
    "open_existing",
    "open_storage",
    "storage_size",
]

#: What adds the backends of this project, for the message about an unknown scheme: an installation whose
#: entry points are older than its code does not know them.
_OURS: Final[Mapping[str, str]] = {
    "memory": "pip install mosaik-raft",
    "sqlite": "pip install 'mosaik-raft[sql]'",
    "lmdb": "pip install 'mosaik-raft[lmdb]'",
    "rocksdb": "pip install 'mosaik-raft[rocksdb]'",
    "postgresql": "pip install 'mosaik-raft[postgres]'",
    "mariadb": "pip install 'mosaik-raft[mariadb]'",
    "faulty": "pip install mosaik-raft",
    "slow": "pip install mosaik-raft",
    "full": "pip install mosaik-raft",
    "tee": "pip install mosaik-raft",
}


class Backend(msgspec.Struct, frozen=True, kw_only=True):
    """A registered backend, as ``mosaik storage list`` shows it.

    Attributes:
        scheme: how URLs name it.
        distribution, version: the package that registered it.
        importable: whether it and its drivers can be imported.
        survives: what it claims to survive with its default options; empty when it cannot be loaded.
        wraps: it stands in front of another backend, as in ``scheme+sqlite:///…``.
        remote: it is a server, of which only a whole URL says where it is.
        problem: why it cannot be used; empty when it can.
    """

    scheme: str
    distribution: str
    version: str
    importable: bool
    survives: tuple[str, ...] = ()
    wraps: bool = False
    remote: bool = False
    problem: str = ""


def open_storage(
    where: str | StorageURL | StorageEnvironment | Storage[Any],
    *,
    peer: bytes,
    data_dir: str | os.PathLike[str] | None = None,
) -> StorageEnvironment:
    """Opens a store, making it when it is not there. Blocks.

    Two openings of one store in a process share it; it closes with the last of them.

    Args:
        where: a backend's name (the store is in ``data_dir`` then), a URL, or a store that is open
            already, which is given back.
        peer: the node's id, 32 bytes.
        data_dir: the node's data directory.

    Raises:
        UnknownScheme: no backend has this name.
        ConfigError: a malformed URL, a misspelt option, no ``data_dir`` for a bare name, or two
            distributions with one scheme.
        StorageUnavailable, StorageLocked, StorageMismatch, StorageFormatTooNew, CorruptEntry: see there.
    """
    if isinstance(where, Storage):
        return where.environment
    if not isinstance(where, str | StorageURL):
        return where
    if len(peer) != DIGEST_SIZE:
        raise ConfigError(f"a node's id has {DIGEST_SIZE} bytes, not {len(peer)}")
    url = StorageURL.parse(where) if isinstance(where, str) else where
    plugin, url, options = _resolve(url)
    directory = Path(data_dir).absolute() if data_dir is not None else None
    return plugin.open(url, options, data_dir=directory, peer=bytes(peer))


def examine_storage(
    where: str | StorageURL, *, data_dir: str | os.PathLike[str] | None = None
) -> None:
    """Looks at a closed store before it is opened, where its backend can: some engines end the process
    when their files are damaged, and then nobody is told of what. Blocks.

    Raises:
        CorruptEntry: the engine's own structures are damaged.
        StorageLocked: it is open.
        UnknownScheme, ConfigError, StorageUnavailable: as for `open_storage`.
    """
    url = StorageURL.parse(where) if isinstance(where, str) else where
    plugin, url, _ = _resolve(url)
    examine = getattr(plugin, "examine", None)
    if examine is not None:
        examine(url, data_dir=Path(data_dir).absolute() if data_dir is not None else None)


def open_existing(
    where: str | StorageURL, *, data_dir: str | os.PathLike[str] | None = None
) -> StorageEnvironment:
    """Opens a store that is there, as the node that it belongs to: for tools, while that node is stopped.

    Blocks. Raises:
        StorageUnavailable: there is no store, or its backend cannot say whose it is.
        StorageLocked: a process has it open. Otherwise as `open_storage`.
    """
    directory = Path(data_dir).absolute() if data_dir is not None else None
    url = StorageURL.parse(where) if isinstance(where, str) else where
    return open_storage(url, peer=_owner(url, directory), data_dir=directory)


def _owner(url: StorageURL, data_dir: Path | None) -> bytes:
    plugin, url, options = _resolve(url)
    if _wraps(plugin):
        return _owner(url, data_dir)
    owner = getattr(plugin, "owner", None)
    if owner is None:
        raise StorageUnavailable(
            f"the backend {plugin.scheme!r} does not say whose a store is, so it can be opened by its node "
            f"only",
            url=str(url),
        )
    found: bytes = owner(url, options, data_dir=data_dir)
    return found


def storage_format(
    where: str | StorageURL, *, data_dir: str | os.PathLike[str] | None = None
) -> Schema:
    """The version of what a closed store is written in, and the one that an opening makes of it. Blocks.

    Raises:
        StorageUnavailable: there is no store, or its backend does not say.
        StorageLocked: it is open.
        UnknownScheme, ConfigError: as for `open_storage`.
    """
    directory = Path(data_dir).absolute() if data_dir is not None else None
    plugin, url, options = _resolve(StorageURL.parse(where) if isinstance(where, str) else where)
    if _wraps(plugin):
        return storage_format(url, data_dir=data_dir)
    tell = getattr(plugin, "format", None)
    if tell is None:
        raise StorageUnavailable(
            f"the backend {plugin.scheme!r} does not say in which format a store is", url=str(url)
        )
    found: Schema = tell(url, options, data_dir=directory)
    return found


def storage_size(where: str | StorageURL, *, data_dir: str | os.PathLike[str] | None = None) -> int:
    """The bytes that a store's files take on the disk; 0 where that cannot be told. Blocks.

    Raises:
        UnknownScheme, ConfigError, StorageUnavailable: as for `open_storage`.
    """
    plugin, url, _ = _resolve(StorageURL.parse(where) if isinstance(where, str) else where)
    if _wraps(plugin):
        return storage_size(url, data_dir=data_dir)
    size = getattr(plugin, "size", None)
    if size is None:
        return 0
    found: int = size(url, data_dir=Path(data_dir).absolute() if data_dir is not None else None)
    return found


def list_backends() -> list[Backend]:
    """Every registered backend, by scheme. Loads the backends' modules, but not their drivers."""
    found = sorted(_registered(), key=lambda point: (point.name, _source(point)))
    return [_describe(point) for point in found]


def _resolve(url: StorageURL) -> tuple[AnyPlugin, StorageURL, msgspec.Struct]:
    """The plugin that a URL names, the URL that it is to open, and its options.

    ``slow+lmdb:///…`` names a wrapper and what it wraps: the wrapper gets the URL of the other, without the
    options that are its own.

    Raises:
        ConfigError: a wrapper has nothing to wrap, something that wraps nothing is to, or an option is wrong.
    """
    schemes = url.scheme.split("+")
    plugins = [_load(_find(scheme)) for scheme in schemes if scheme]
    for at, plugin in enumerate(plugins):
        behind = schemes[at + 1 :]
        if _wraps(plugin) and not any(behind):
            raise ConfigError(
                f"{plugin.scheme} storage stands in front of another; say of which, as in "
                f"{plugin.scheme}+sqlite:///var/lib/app/raft.db"
            )
        if behind and not _wraps(plugin):
            raise ConfigError(
                f"{plugin.scheme} storage wraps no other: nothing follows it with a plus"
            )
    check_option_names(url, [plugin.options for plugin in plugins])
    plugin = plugins[0]
    if not _wraps(plugin):
        return plugin, url, read_options(url, plugin.options)
    own = option_names(plugin.options)
    mine = {name: value for name, value in url.query.items() if name in own}
    rest = {name: value for name, value in url.query.items() if name not in own}
    inner = msgspec.structs.replace(url, scheme="+".join(schemes[1:]), query=rest)
    _resolve(inner)  # what is wrong with it is said before anything is opened
    options = read_options(msgspec.structs.replace(url, query=mine), plugin.options)
    return plugin, inner, options


def _find(scheme: str) -> EntryPoint:
    points = _registered(scheme)
    sources = sorted({_source(point) for point in points})
    if len(sources) > 1:
        raise ConfigError(
            f"the storage scheme {scheme!r} is offered by {' and by '.join(sources)}; uninstall all but "
            f"one, so that a log stays where it is"
        )
    for point in points:
        return point
    known = sorted({point.name for point in _registered()})
    # Python remembers a directory that it could not list, for want of a descriptor say, as an empty one.
    MetadataPathFinder().invalidate_caches()
    if scheme in _OURS:
        cure = f"to add it: {_OURS[scheme]}"
    else:
        cure = (
            f"{did_you_mean(scheme, known)} A package adds a backend by an entry point in the group "
            f"{ENTRY_POINTS!r}"
        )
    raise UnknownScheme(
        f"no storage backend is called {scheme!r}; known are {', '.join(known) or 'none'}; {cure}"
    )


def _registered(scheme: str | None = None) -> Sequence[EntryPoint]:
    try:
        found = entry_points(group=ENTRY_POINTS)
    except OSError as error:
        raise StorageUnavailable(f"the installed backends cannot be listed: {error}") from error
    return [point for point in found if scheme in (None, point.name)]


def _load(point: EntryPoint) -> AnyPlugin:
    """The plugin object of an entry point.

    Raises:
        StorageUnavailable: it cannot be imported, or is no plugin for this version.
    """
    source = _source(point)
    try:
        plugin = point.load()
    except (ImportError, AttributeError) as error:
        hint = f"; to add what is missing: {_OURS[point.name]}" if point.name in _OURS else ""
        raise StorageUnavailable(
            f"the storage backend {point.name!r} of {source} cannot be loaded from {point.value}: "
            f"{error}{hint}"
        ) from error
    missing = [name for name in _MEMBERS if not hasattr(plugin, name)]
    if missing:
        raise StorageUnavailable(
            f"{point.value} of {source} is not a storage plugin: it lacks {', '.join(missing)}"
        )
    loaded: AnyPlugin = plugin
    if loaded.api_version != API_VERSION or loaded.scheme != point.name:
        raise StorageUnavailable(
            f"the storage backend {point.name!r} of {source} says that it is {loaded.scheme!r} for "
            f"version {loaded.api_version} of the storage interface; this is version {API_VERSION}"
        )
    return loaded


_MEMBERS: Final = ("scheme", "options", "capabilities", "drivers", "install", "api_version", "open")


def _wraps(plugin: AnyPlugin) -> bool:
    return bool(getattr(plugin, "wraps", False))


def _source(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "an unknown distribution"


def _describe(point: EntryPoint) -> Backend:
    problem = ""
    survives: tuple[str, ...] = ()
    wraps = remote = False
    try:
        plugin = _load(point)
        wraps, remote = _wraps(plugin), bool(getattr(plugin, "remote", False))
        survives = tuple(sorted(plugin.capabilities))
        missing = [name for name in plugin.drivers if not _importable(name)]
        if missing:
            hint = f"; to add it: {plugin.install}" if plugin.install else ""
            problem = f"{', '.join(missing)} cannot be imported{hint}"
    except StorageUnavailable as error:
        problem = str(error)
    return Backend(
        scheme=point.name,
        distribution=_source(point),
        version=point.dist.version if point.dist is not None else "",
        importable=not problem,
        survives=survives,
        wraps=wraps,
        remote=remote,
        problem=problem,
    )


def _importable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False
