"""Addresses: ``host:port``, with IPv6 hosts in brackets."""

from __future__ import annotations

import socket
from typing import NamedTuple, Self

from mosaik.primitives.errors import BindError, ConfigError

__all__ = ["HostPort", "own_host", "require_own"]


class HostPort(NamedTuple):
    """A host, by name or number, and a TCP port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """The address that a person wrote.

        Raises:
            ConfigError: it is not ``host:port``.
        """
        host, colon, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if bracketed:
            host = host[1:-1]
        good = colon and host and port.isascii() and port.isdigit() and int(port) < 1 << 16
        if not good or (":" in host and not bracketed):
            raise ConfigError(
                f"{text!r} is not an address; write HOST:PORT, such as 10.0.0.1:4433 or [::1]:4433"
            )
        return cls(host, int(port))

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for every address of this machine, which nobody can dial."""
        return self.host in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def own_host(wildcard: str) -> str:
    """The address that this machine would send from; no packet is sent to find out.

    Raises:
        ConfigError: there is no route, so nothing to tell others.
    """
    family, anywhere = (
        (socket.AF_INET6, "2001:db8::1") if ":" in wildcard else (socket.AF_INET, "192.0.2.1")
    )
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((anywhere, 9))
        except OSError as error:
            raise ConfigError(
                f"listening on {wildcard}, but no address to tell others was found ({error}); "
                "name it with advertise=['HOST:PORT']"
            ) from error
        return str(probe.getsockname()[0])


def require_own(host: str) -> None:
    """Finds out now whether this machine can dial from a numeric address.

    Raises:
        BindError: it cannot.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((host, 0))
    except OSError as error:
        raise BindError(
            f"cannot dial from {host}: {error.strerror}; source= has to be an address of this machine"
        ) from error
