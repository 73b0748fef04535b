"""Real node processes on this machine: start, kill, restart, pause, and await what happens.

Each node runs ``mosaik node`` in a process of its own, with its own data directory and store, on
127.0.0.1. Nothing sleeps: nodes report what happens over a pipe. Whatever becomes of the test, the
processes end with it; the kernel kills them even when the test itself is killed.

.. code-block:: python

    async with Cluster(tmp_path, nodes=3, storage="sqlite") as cluster:
        leader = await cluster.leader()
        await leader.kill()
        await leader.start()
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from mosaik.groups.config import ConsensusConfig
from mosaik.groups.key import GroupKey
from mosaik.primitives.digest import PeerId
from mosaik.primitives.entry import Entry
from mosaik.primitives.errors import ConfigError
from mosaik.testing.hosts import Host
from mosaik.testing.instruments import NodeDisk, require_sources, source_of
from mosaik.testing.offline import read_log
from mosaik.testing.ports import free_ports
from mosaik.testing.process import Event, Process
from mosaik.testing.proxy import Proxy

__all__ = ["Cluster", "ClusterNode"]

#: How long anything that is awaited may take, in seconds.
PATIENCE: Final = 30.0


class ClusterNode:
    """One node of a cluster; the same node before and after it was killed.

    Attributes:
        name: ``node-1`` and so on.
        data_dir: its key, lock and store.
        address: where it listens.
        storage: the backend's name or URL that it was given.
        settings: the sections of its file of settings, which is written at each start.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        address: str,
        storage: str,
        settings: Mapping[str, Any],
        wrapper: Sequence[str] = (),
        options: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.name: Final = name
        self.data_dir: Final = directory / name
        self.address: Final = address
        self.storage: Final = storage
        self.settings: Final = settings
        self._file = directory / f"{name}.toml"
        self._peer: PeerId | None = None
        command = [*wrapper, sys.executable, "-m", "mosaik", "node", "--config", str(self._file)]
        command += ["--events", "--control", "--parent", str(os.getpid()), *options]
        self.process: Final = Process(command, log=directory / f"{name}.log", environ=environ)

    @property
    def peer(self) -> PeerId:
        """The node's id; known once it has been started."""
        assert self._peer is not None, f"{self.name} was never started"
        return self._peer

    @property
    def seen(self) -> int:
        """How many events its present run has reported: for `until`, to wait for one that comes after."""
        return len(self.process.events)

    @property
    def running(self) -> bool:
        """Whether its process is there, stopped or not."""
        return self.process.running

    async def start(self) -> None:
        """Starts the node and returns once it listens.

        Raises:
            ProcessEnded: it ended instead; the message has what it said.
        """
        self._file.write_text(_toml(self.settings))
        await self.process.start()
        event = await self.process.until("listening", timeout=PATIENCE)
        self._peer = PeerId(event["peer"])

    async def kill(self) -> None:
        """Ends the node with SIGKILL: it does nothing more, and closes nothing."""
        await self.process.kill()

    async def stop(self) -> None:
        """Asks the node to end, and waits for it."""
        await self.process.stop(PATIENCE)

    async def restart(self) -> None:
        """Kills the node and starts it again."""
        await self.kill()
        await self.start()

    def pause(self) -> None:
        """Freezes the node (SIGSTOP): it keeps its connections and answers nobody."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets a paused node go on (SIGCONT)."""
        self.process.send_signal(signal.SIGCONT)

    async def until(
        self, wanted: str | Callable[[Event], bool], *, after: int = 0, timeout: float = PATIENCE
    ) -> Event:
        """The first event of its present run that is wanted; see `Process.until`.

        Raises:
            ProcessEnded: the node ended, or the time passed, without it.
        """
        return await self.process.until(wanted, after=after, timeout=timeout)

    async def execute(self, command: Any, *, timeout: float = PATIENCE) -> tuple[int, Any]:
        """Executes a command through this node; answers its index and the machine's result.

        Raises:
            RequestFailed: the node answered with an error, which the message names.
        """
        value = msgspec.to_builtins(command)
        answer = await self.process.request("execute", value=value, timeout=timeout)
        return answer["index"], answer["result"]

    async def query(self, query: Any, *, strong: bool = True, timeout: float = PATIENCE) -> Any:
        """Asks the state machine through this node.

        Raises:
            RequestFailed: the node answered with an error, which the message names.
        """
        value = msgspec.to_builtins(query)
        return await self.process.request("query", value=value, strong=strong, timeout=timeout)

    async def reaches(self, index: int, *, timeout: float = PATIENCE) -> None:
        """Waits until this node has applied the log up to an index.

        Raises:
            ProcessEnded: it ended, or the time passed, before that.
        """
        await self.process.request("reaches", value=index, timeout=timeout)

    async def longest_stall(self, seconds: float) -> float:
        """Watches the node's event loop; the longest time, in seconds, that it did not turn."""
        stall: float = await self.process.request(
            "stall", value=seconds, timeout=seconds + PATIENCE
        )
        return stall

    async def status(self) -> Mapping[str, Any]:
        """Where it stands: ``leader``, ``me`` (it leads), ``committed`` and ``log`` (term, index)."""
        status: Mapping[str, Any] = await self.process.request("status")
        return status

    def __repr__(self) -> str:
        return f"ClusterNode({self.name}, {self.address}, running={self.running})"


class Cluster:
    """Several nodes of one group.

    Args:
        directory: where everything is kept; a later cluster in it finds the same nodes and stores.
        nodes: how many.
        storage: the backend's name, or a URL in which ``{node}`` stands for the node's name.
        consensus: parameters of the group; ``bootstrap_expect`` is the number of nodes.
        machine: what makes the state machine, ``package.module:name``; a `Map` of text when not given.
        network: the network's name.
        wrapper: stands before each node's command, such as ``strace -D`` with a fault to inject.
        instrumented: let `partition`, `cut` and `disk` work, and `assert_replicas_agree`: nodes reach
            each other through a proxy in this process, their stores do what they are told, and each
            writes down what its machine does. Needs a system on which all of 127.0.0.0/8 is this
            machine, such as Linux.
        path: directories in which the nodes find modules beside the usual ones.
        hosts: a host for each node (`Hosts`); all are on this one when not given.

    Attributes:
        nodes: the nodes.
        key: the group's key.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        nodes: int = 3,
        storage: str = "sqlite",
        consensus: Mapping[str, Any] | None = None,
        machine: str | None = None,
        network: str = "mosaik-cluster",
        wrapper: Sequence[str] = (),
        instrumented: bool = False,
        path: Sequence[str | os.PathLike[str]] = (),
        hosts: Sequence[Host] | None = None,
    ) -> None:
        if hosts is not None and (instrumented or len(hosts) != nodes):
            raise ConfigError(f"{nodes} nodes need {nodes} hosts, whose wires no instruments hold")
        self.directory: Final = Path(directory).absolute()
        self.network: Final = network
        self.settings: Final[Mapping[str, Any]] = {"bootstrap_expect": nodes, **(consensus or {})}
        self.key: Final = self._key()
        self.instrumented: Final = instrumented
        addresses = [
            f"127.0.0.1:{port}" for port in free_ports(2 * nodes if instrumented else nodes)
        ]
        if hosts is not None:
            addresses = [host.address for host in hosts]
        self.addresses: Final[Sequence[str]] = addresses[:nodes]
        """What others dial to reach the nodes: what to begin with."""
        self._behind: Final = addresses[nodes:]
        shared: dict[str, Any] = {
            "group": {"key_file": "group.key"} | ({"machine": machine} if machine else {}),
            "consensus": self.settings,
        }
        environ = {"PYTHONPATH": _python_path(path)} if path else {}
        if instrumented:
            # Else a seed in the environment, such as tox puts there, gives sets the same order everywhere.
            environ["PYTHONHASHSEED"] = "random"
        self.nodes: Final = tuple(
            self._node(number, storage, shared, [*on, *wrapper], environ)
            for number, on in enumerate(_wrappers(hosts, nodes), 1)
        )
        self._proxy = self._make_proxy() if instrumented else None

    def _key(self) -> GroupKey:
        path = self.directory / "group.key"
        self.directory.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            GroupKey.generate().write_file(path)
        return GroupKey.from_file(path)

    def _node(
        self,
        number: int,
        storage: str,
        shared: Mapping[str, Any],
        wrapper: Sequence[str],
        environ: Mapping[str, str],
    ) -> ClusterNode:
        name, address = f"node-{number}", self.addresses[number - 1]
        url = storage.replace("{node}", name)
        network = {
            "name": self.network,
            "data_dir": name,
            "listen": address,
            "bootstrap": [other for other in self.addresses if other != address],
        }
        options: list[str] = []
        if self.instrumented:
            if url != "memory":  # which has no disk
                url = f"switched+{url}"
            options = ["--trail"]
            network |= {
                "listen": self._behind[number - 1],
                "advertise": [address],
                "source": source_of(number),
            }
        settings = {"network": network, "storage": {"url": url}, **shared}
        return ClusterNode(name, self.directory, address, url, settings, wrapper, options, environ)

    def _make_proxy(self) -> Proxy:
        names = [node.name for node in self.nodes]
        ways = zip(self.addresses, self._behind, strict=True)
        return Proxy(
            dict(zip(names, ways, strict=True)),
            {source_of(number): name for number, name in enumerate(names, 1)},
        )

    @property
    def consensus(self) -> ConsensusConfig:
        """The group's parameters, for a process that wants to join it."""
        return ConsensusConfig.from_mapping(self.settings)

    def node_of(self, peer: PeerId) -> ClusterNode | None:
        """The node with that id, if one of them has it."""
        return next((node for node in self.nodes if node.peer == peer), None)

    async def start(self) -> None:
        """Starts every node that is not running.

        Raises:
            ProcessEnded: one ended instead. ConfigError: this system cannot run an instrumented cluster.
        """
        if self._proxy is not None and not self._proxy.running:
            require_sources(len(self.nodes))
            await self._proxy.start()
        await asyncio.gather(*(node.start() for node in self.nodes if not node.running))

    async def stop(self) -> None:
        """Asks every node to end, and waits for all."""
        await asyncio.gather(*(node.stop() for node in self.nodes if node.running))

    async def kill(self) -> None:
        """Kills every node at once."""
        await asyncio.gather(*(node.kill() for node in self.nodes))

    # -- wires and disks ----------------------------------------------------------------------------

    def partition(self, *sides: Sequence[ClusterNode]) -> None:
        """Cuts the wires between nodes of different sides; a node of none keeps all of its own.

        Whoever sends something across hears nothing: no error, no end of the connection. Wires that were cut
        before stay so.

        Raises:
            ConfigError: the cluster is not instrumented.
        """
        for number, side in enumerate(sides):
            for other in sides[number + 1 :]:
                for one, another in product(side, other):
                    self.cut(one, another)
                    self.cut(another, one)

    def cut(self, source: ClusterNode, target: ClusterNode) -> None:
        """What one node says does not reach another one. New connections need both ways.

        Raises:
            ConfigError: the cluster is not instrumented.
        """
        self._instrument().cut([(source.name, target.name)])

    def heal(self) -> None:
        """Mends all wires; what was held back arrives.

        Raises:
            ConfigError: the cluster is not instrumented.
        """
        self._instrument().heal()

    def disk(self, node: ClusterNode) -> NodeDisk:
        """The node's disk, which can be told to fail.

        Raises:
            ConfigError: the cluster is not instrumented.
        """
        self._instrument()
        return NodeDisk(node.data_dir)

    def _instrument(self) -> Proxy:
        if self._proxy is None:
            raise ConfigError(
                "wires and disks are real here; make it Cluster(..., instrumented=True)"
            )
        return self._proxy

    # -- who leads ----------------------------------------------------------------------------------

    async def leader(
        self, *, among: Iterable[ClusterNode] | None = None, timeout: float = PATIENCE
    ) -> ClusterNode:
        """The node that reports that it leads and takes commands; of several the one of the highest term.

        Args:
            among: the nodes to look at; those that run when not given. A frozen leader still believes
                that it leads, so name the others to find its successor.
            timeout: seconds.

        Raises:
            ProcessEnded: a node ended, or none reported it in time.
        """
        candidates = [node for node in (self.nodes if among is None else among) if node.running]
        waiting = [asyncio.create_task(_leads(node, timeout)) for node in candidates]
        try:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        leaders = [node for node in candidates if _term_led(node) is not None]
        return max(leaders, key=lambda node: _term_led(node) or 0)

    async def logs(self, command_type: Any) -> Mapping[str, list[Entry[Any]]]:
        """The log of every node, by the node's name; none of them may run.

        Args:
            command_type: the state machine's.

        Raises:
            IdentityError: a node runs. CorruptEntry: an entry is damaged or missing.
        """

        def read(node: ClusterNode) -> list[Entry[Any]]:
            return read_log(node.storage, data_dir=node.data_dir, command_type=command_type)

        found = await asyncio.gather(*(asyncio.to_thread(read, node) for node in self.nodes))
        return {node.name: log for node, log in zip(self.nodes, found, strict=True)}

    async def online(self, *, timeout: float = PATIENCE) -> None:
        """Waits until every running node leads or follows a leader."""
        waiting = (node.until("online", timeout=timeout) for node in self.nodes if node.running)
        await asyncio.gather(*waiting)

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        await self.kill()
        if self._proxy is not None:
            await self._proxy.close()


def _wrappers(hosts: Sequence[Host] | None, nodes: int) -> list[list[str]]:
    return [host.wrapper for host in hosts] if hosts is not None else [[]] * nodes


def _python_path(path: Sequence[str | os.PathLike[str]]) -> str:
    more = os.environ.get("PYTHONPATH", "")
    return os.pathsep.join([*(os.fspath(each) for each in path), *([more] if more else [])])


#: Events that say whether a node takes commands.
_ABLE: Final = {"online": True, "offline": False}


async def _leads(node: ClusterNode, timeout: float) -> None:
    """Returns once the node's last word is that it leads."""
    while _term_led(node) is None:
        seen = len(node.process.events)
        await node.until(lambda _: True, after=seen, timeout=timeout)


def _term_led(node: ClusterNode) -> int | None:
    """The term that a node leads, online, by what it reported last."""
    events = node.process.events
    leader = next((event for event in reversed(events) if event["event"] == "leader"), None)
    able = next((event for event in reversed(events) if event["event"] in _ABLE), None)
    if leader is None or not leader["me"] or able is None or not _ABLE[able["event"]]:
        return None
    term: int = leader["term"]
    return term


def _toml(sections: Mapping[str, Mapping[str, Any]]) -> str:
    # A JSON string, number or list of strings is one of TOML too.
    lines: list[str] = []
    for section, values in sections.items():
        lines += [
            f"[{section}]",
            *(f"{name} = {json.dumps(value)}" for name, value in values.items()),
            "",
        ]
    return "\n".join(lines)
