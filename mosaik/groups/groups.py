"""The groups of one node."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final, TypeVar

from mosaik.groups.builder import KeyStage
from mosaik.groups.config import ConsensusConfig, GroupConfig
from mosaik.groups.group import Group
from mosaik.groups.handshake import HandshakeFailed, read_start
from mosaik.groups.key import GroupKey
from mosaik.groups.mesh import HANDSHAKE_TIMEOUT
from mosaik.groups.node import Node
from mosaik.groups.opening import StorageChoice
from mosaik.groups.running import RunningGroup
from mosaik.groups.wire import PROTOCOL
from mosaik.machines.machine import StateMachine
from mosaik.primitives.digest import Digest
from mosaik.primitives.errors import ConfigError, JoinConflict, LinkClosed, StoragePoisoned
from mosaik.transport.contract import CloseReason, Link
from mosaik.transport.quiet import QuietLog

__all__ = ["Groups"]

log = logging.getLogger("mosaik.groups")
_quiet: Final = QuietLog(log)

C = TypeVar("C")
Q = TypeVar("Q")
R = TypeVar("R")

#: Links whose first frame has not come yet, in all and of one peer. When there are more, the oldest goes:
#: an honest handshake takes milliseconds, so the oldest are those that stall.
_MOST_HALF_OPEN: Final = 256
_MOST_OF_ONE: Final = 8


class Groups:
    """Joins groups on a node, and gives each accepted link to the group that it names.

    Get it from ``network.groups()``.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._active: dict[Digest, RunningGroup] = {}
        self._half_open: dict[asyncio.Task[None], Link] = {}
        self._closed = False
        node.accept(PROTOCOL, self._accept)

    def with_key(self, key: GroupKey) -> KeyStage:
        """Begins to describe a group; see `mosaik.groups.builder`.

        Raises:
            ConfigError: it is not a `GroupKey`, or the configured parameters contradict each other.
        """
        if not isinstance(key, GroupKey):  # pyright: ignore[reportUnnecessaryIsInstance]  # for the untyped
            raise ConfigError(
                "with_key takes a GroupKey: GroupKey.generate(), from_secret(), from_passphrase() or "
                f"from_file(), not {type(key).__name__}"
            )
        return KeyStage(self, key, ConsensusConfig.from_mapping(self._node.consensus))

    def join(
        self, config: GroupConfig, machine: StateMachine[C, Q, R], storage: StorageChoice
    ) -> Group[C, Q, R]:
        """A handle to a group, which begins to run here if it does not yet. Use the builder.

        Raises:
            ConfigError: the store is durable and the node's identity is not, or the node is closed.
            JoinConflict: the group runs here with another machine or another storage.
        """
        if self._closed:
            raise ConfigError("the network is closed; join groups while it is open")
        storage = storage.resolve(self._node)
        running = self._active.get(config.group_id)
        if running is None or running.over or running.closing:
            after = running.task if running is not None else None
            running = RunningGroup(
                self._node, config, machine, storage, after, self._ended, self._poisoned
            )
            self._active[config.group_id] = running
        else:
            _require_same(running, machine, storage)
        return Group(running)

    def _ended(self, running: RunningGroup) -> None:
        if self._active.get(running.config.group_id) is running:
            del self._active[running.config.group_id]

    def _poisoned(self, found: RunningGroup, error: StoragePoisoned) -> None:
        """All groups of a poisoned store let go of it, or none could open it again."""
        key = found.store_key
        for running in list(self._active.values()):
            if running is not found:
                running.store_poisoned(key, error)

    # -- links that arrive --------------------------------------------------------------------------

    def _accept(self, link: Link) -> None:
        if self._closed:
            link.close(CloseReason.CANCELLED, "the node shuts down")
            return
        self._make_room(link)
        task = asyncio.get_running_loop().create_task(
            self._greet(link), name=f"mosaik handshake {link.remote.short}"
        )
        self._half_open[task] = link
        task.add_done_callback(lambda done: self._half_open.pop(done, None))

    def _make_room(self, link: Link) -> None:
        of_this = [task for task, open_ in self._half_open.items() if open_.remote == link.remote]
        for tasks, most in ((of_this, _MOST_OF_ONE), (list(self._half_open), _MOST_HALF_OPEN)):
            if len(tasks) >= most:
                oldest = self._half_open.pop(tasks[0], None)
                if oldest is not None:
                    oldest.close(CloseReason.TOO_MANY, "too many handshakes at once")
                    tasks[0].cancel()

    async def _greet(self, link: Link) -> None:
        try:
            start = await read_start(link, HANDSHAKE_TIMEOUT)
        except HandshakeFailed as error:
            _quiet.warning("%s sent no handshake: %s", link.remote.short, error)
            link.close(error.code, str(error)[:200])
        except TimeoutError:
            link.close(CloseReason.TIMEOUT, "the handshake took too long")
        except LinkClosed:
            return
        except asyncio.CancelledError:
            link.close(CloseReason.CANCELLED, "the node shuts down")
            raise
        else:
            running = self._active.get(Digest.from_bytes(start.group))
            if running is None or running.over:
                link.close(CloseReason.GROUP_NOT_FOUND, "this group does not run here")
            else:
                running.mesh.accept(link, start)

    # -- the end ------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Closes every group."""
        self._closed = True
        for task in list(self._half_open):
            task.cancel()
        await asyncio.gather(*(running.close() for running in list(self._active.values())))
        await asyncio.gather(*self._half_open, return_exceptions=True)


def _require_same(
    running: RunningGroup, machine: StateMachine[Any, Any, Any], storage: StorageChoice
) -> None:
    group = running.config.group_id.short
    if type(machine) is not type(running.machine):
        raise JoinConflict(
            f"the group {group} runs here with a {type(running.machine).__name__} and cannot be joined "
            f"with a {type(machine).__name__}, although both have one signature()"
        )
    if not storage.same_as(running.storage):
        raise JoinConflict(
            f"the group {group} runs here on the storage {running.storage} and cannot be joined with "
            f"{storage}; close it first"
        )
