"""Hosts of their own for nodes, on one machine: network namespaces of Linux, and wires that can be pulled.

Each host is a network namespace with one interface; a switch, in a namespace of its own, connects them.
Nothing of it touches the machine's network, and all of it goes when the block ends. It needs root.

.. code-block:: python

    with Hosts(3) as hosts:
        async with Cluster(tmp_path, hosts=hosts) as cluster:
            leader = await cluster.leader()
            hosts.unplug(leader)
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from mosaik.primitives.errors import ConfigError

if TYPE_CHECKING:
    from mosaik.testing.cluster import ClusterNode

__all__ = ["Host", "Hosts"]

#: A network that exists in these namespaces only, so that it may be in use elsewhere.
_NETWORK: Final = "10.231.77"
_PORT: Final = 4433
_serial: Final = count(1)


class Host(NamedTuple):
    """One host.

    Attributes:
        namespace: its name.
        address: where a node on it listens.
    """

    namespace: str
    address: str

    @property
    def wrapper(self) -> list[str]:
        """What stands before a command that runs on it."""
        return ["ip", "netns", "exec", self.namespace]


class Hosts(Sequence[Host]):
    """So many hosts on a switch, as long as the block lasts.

    Args:
        number: of hosts.

    Raises:
        ConfigError: when entered; this system has no network namespaces, or does not allow them.
    """

    def __init__(self, number: int) -> None:
        prefix = f"mosaik-{os.getpid()}-{next(_serial)}"
        self._switch: Final = f"{prefix}-switch"
        self._hosts: Final = [
            Host(f"{prefix}-{each}", f"{_NETWORK}.{each}:{_PORT}") for each in range(1, number + 1)
        ]
        self._made = ExitStack()

    def __getitem__(self, index: int) -> Host:  # type: ignore[override]  # a slice of hosts is no network
        return self._hosts[index]

    def __len__(self) -> int:
        return len(self._hosts)

    def __iter__(self) -> Iterator[Host]:
        return iter(self._hosts)

    def __enter__(self) -> Self:
        if not sys.platform.startswith("linux") or shutil.which("ip") is None:
            raise ConfigError("network namespaces need Linux and the command `ip` (iproute2)")
        with self._made:
            self._namespace(self._switch)
            _ip("-n", self._switch, "link", "add", "switch", "type", "bridge")
            _ip("-n", self._switch, "link", "set", "switch", "up")
            for number, host in enumerate(self._hosts, 1):
                self._namespace(host.namespace)
                self._plug(number, host)
            self._made = self._made.pop_all()
        return self

    def _namespace(self, name: str) -> None:
        _ip("netns", "add", name)
        self._made.callback(_ip, "netns", "delete", name)
        _ip("-n", name, "link", "set", "lo", "up")

    def _plug(self, number: int, host: Host) -> None:
        end = ["peer", "name", "eth0", "netns", host.namespace]
        _ip("-n", self._switch, "link", "add", f"port{number}", "type", "veth", *end)
        _ip("-n", self._switch, "link", "set", f"port{number}", "master", "switch")
        _ip("-n", self._switch, "link", "set", f"port{number}", "up")
        _ip("-n", host.namespace, "address", "add", f"{_NETWORK}.{number}/24", "dev", "eth0")
        _ip("-n", host.namespace, "link", "set", "eth0", "up")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._made.close()

    def unplug(self, node: ClusterNode) -> None:
        """Pulls the wire out of the node's host: nothing comes in or goes out, and nobody is told."""
        _ip("-n", self._switch, "link", "set", f"port{self._number(node)}", "down")

    def plug(self, node: ClusterNode) -> None:
        """Puts it back."""
        _ip("-n", self._switch, "link", "set", f"port{self._number(node)}", "up")

    def _number(self, node: ClusterNode) -> int:
        return 1 + [host.address for host in self._hosts].index(node.address)


def _ip(*arguments: str) -> None:
    command = ["ip", *arguments]  # no shell, and nothing that anybody else wrote
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise ConfigError(
            f"`ip {' '.join(arguments)}` failed: {done.stderr.strip()}; network namespaces need root, and a "
            "kernel (or container) that allows them"
        )
