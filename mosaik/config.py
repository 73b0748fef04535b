"""Settings of a node: a file, the environment and arguments become one typed value.

An argument goes over the environment, the environment over the file, the file over the default::

    [network]                         MOSAIK_NETWORK__NAME=my-app
    name = "my-app"
    data_dir = "node-1"               # relative to this file
    listen = "127.0.0.1:4433"
    bootstrap = ["10.0.0.1:4433"]     # in the environment: addresses with commas between them

    [storage]                         MOSAIK_STORAGE__URL=lmdb
    url = "lmdb"

    [group]
    key_file = "group.key"
    machine = "mosaik.machines:Counter"

    [consensus]
    heartbeat_interval = 0.5

A name that is not a setting is an error that says where it stands and which one is nearest.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Self, cast

import msgspec

from mosaik.primitives.errors import ConfigError
from mosaik.primitives.nearest import did_you_mean

__all__ = ["Config", "ConsensusSection", "GroupSection", "NetworkSection", "StorageSection"]

#: The variable that names the file.
PATH_VARIABLE: Final = "MOSAIK_CONFIG"
_PREFIX: Final = "MOSAIK_"
_SEPARATOR: Final = "__"
#: No sensible file of settings is longer.
_MAX_FILE: Final = 1024 * 1024
#: These name files; in a file of settings they are relative to it.
_PATHS: Final = {("network", "data_dir"), ("group", "key_file")}
#: These are lists of addresses; as text they have commas between them.
_LISTS: Final = {"advertise", "bootstrap"}


class NetworkSection(msgspec.Struct, frozen=True, kw_only=True):
    """Where a node lives.

    Attributes:
        name: the network; nodes of different networks do not see each other.
        data_dir: the directory of the node's key, lock and stores; None keeps nothing.
        listen: the address to listen on, ``host:port``; port 0 lets the system choose.
        advertise: what others shall dial, where it differs from what is listened on, as behind NAT.
        source: the IP address to dial from, on a machine with several; None lets the system choose.
        bootstrap: addresses of nodes to begin with.
    """

    name: str | None = None
    data_dir: str | None = None
    listen: str | None = None
    advertise: tuple[str, ...] = ()
    source: str | None = None
    bootstrap: tuple[str, ...] = ()


class StorageSection(msgspec.Struct, frozen=True, kw_only=True):
    """Where logs are kept.

    Attributes:
        url: a backend's name (then the store is in the data directory) or a URL; None is memory.
    """

    url: str | None = None


class GroupSection(msgspec.Struct, frozen=True, kw_only=True):
    """The group that ``mosaik node`` joins.

    Attributes:
        key_file: the file with the group's secret, readable by its owner alone.
        machine: what makes the state machine, as ``package.module:name``; it is called without
            arguments.
    """

    key_file: str | None = None
    machine: str | None = None


class ConsensusSection(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The group's parameters; those that are not set keep `mosaik.ConsensusConfig`'s defaults.

    Times are seconds. ``leadership`` is this node's own matter, all others are the group's.
    """

    heartbeat_interval: float | None = None
    heartbeat_jitter: float | None = None
    max_missed_heartbeats: int | None = None
    election_timeout: float | None = None
    election_timeout_jitter: float | None = None
    bootstrap_delay: float | None = None
    forward_timeout: float | None = None
    query_timeout: float | None = None
    bootstrap_expect: int | None = None
    max_voters: int | None = None
    dead_voter_timeout: float | None = None
    on_lost_history: Literal["block", "forget"] | None = None
    leadership: Literal["normal", "reluctant", "observer"] | None = None

    def settings(self) -> dict[str, Any]:
        """Those that are set, by name."""
        return {
            name: value for name, value in msgspec.structs.asdict(self).items() if value is not None
        }


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set from outside a program."""

    network: NetworkSection = NetworkSection()
    storage: StorageSection = StorageSection()
    group: GroupSection = GroupSection()
    consensus: ConsensusSection = ConsensusSection()

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> Self:
        """Reads the settings.

        Args:
            path: the file; when not given the one that ``MOSAIK_CONFIG`` names, if it names one.
            environ: the environment; the process's own when not given.
            arguments: settings as ``section.name``; None values are not set.

        Raises:
            ConfigError: the file cannot be read, or a setting is misspelt or of the wrong type.
        """
        environ = os.environ if environ is None else environ
        path = path or environ.get(PATH_VARIABLE)
        sections: dict[str, dict[str, Any]] = {name: {} for name in _SECTIONS}
        for layer in (
            _from_file(Path(path)) if path else (),
            _from_environment(environ),
            _from_arguments(arguments or {}),
        ):
            for setting in layer:
                sections[setting.section][setting.name] = setting.checked()
        return msgspec.convert(sections, cls)


_SECTIONS: Final[Mapping[str, type[msgspec.Struct]]] = {
    "network": NetworkSection,
    "storage": StorageSection,
    "group": GroupSection,
    "consensus": ConsensusSection,
}
_TYPES: Final = {
    (section, field.name): field.type
    for section, struct in _SECTIONS.items()
    for field in msgspec.structs.fields(struct)
}


class _Setting(NamedTuple):
    """One value as it was found; ``source`` says where, ``text`` whether it must be read from text."""

    section: str
    name: str
    value: Any
    source: str
    text: bool = False

    def checked(self) -> Any:
        """The value in its type.

        Raises:
            ConfigError: there is no such setting, or the value is not one for it.
        """
        if self.section not in _SECTIONS:
            hint = did_you_mean(self.section, _SECTIONS)
            raise ConfigError(f"{self.source}: there is no section {self.section!r}; {hint}")
        kind = _TYPES.get((self.section, self.name))
        if kind is None:
            hint = did_you_mean(
                self.name, (name for section, name in _TYPES if section == self.section)
            )
            raise ConfigError(
                f"{self.source}: there is no setting {self.name!r} in [{self.section}]; {hint}"
            )
        value = self.value
        if value == "" and self.name not in _LISTS:
            # An unset shell variable, most likely; a node must not become a volatile one by it.
            raise ConfigError(
                f"{self.source}: [{self.section}] {self.name} is empty; give it a value, or leave it out"
            )
        if self.text and self.name in _LISTS:
            value = [address.strip() for address in value.split(",") if address.strip()]
        try:
            return msgspec.convert(value, kind, strict=not self.text)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{self.source}: [{self.section}] {self.name}: {error}") from error


def _from_file(path: Path) -> Iterator[_Setting]:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise ConfigError(f"the configuration {path} cannot be read: {error.strerror}") from error
    if len(text) > _MAX_FILE:
        raise ConfigError(f"the configuration {path} is longer than {_MAX_FILE} bytes")
    try:
        document = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the configuration {path} is not TOML: {error}") from error
    for section, values in document.items():
        if not isinstance(values, dict):
            raise ConfigError(f"{path}: {section!r} stands outside a section such as [network]")
        for name, value in cast("dict[str, Any]", values).items():
            beside = (section, name) in _PATHS and isinstance(value, str)
            yield _Setting(section, name, str(path.parent / value) if beside else value, str(path))


def _from_environment(environ: Mapping[str, str]) -> Iterator[_Setting]:
    for variable, value in sorted(environ.items()):
        if variable.startswith(_PREFIX) and _SEPARATOR in variable:
            section, _, name = variable.removeprefix(_PREFIX).lower().partition(_SEPARATOR)
            yield _Setting(section, name, value, variable, text=True)


def _from_arguments(arguments: Mapping[str, Any]) -> Iterator[_Setting]:
    for path, value in arguments.items():
        if value is not None:
            section, _, name = path.partition(".")
            yield _Setting(section, name, value, f"argument {path}", text=isinstance(value, str))
