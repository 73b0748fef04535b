"""A handle to a group that runs on this node."""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import msgspec

from mosaik.groups.bond import Bonds
from mosaik.groups.call import AppliedRange, Call
from mosaik.groups.config import GroupConfig
from mosaik.groups.inspection import GroupReport, report_on, stream_group
from mosaik.groups.outcome import Consistency, Pending
from mosaik.groups.running import RunningGroup
from mosaik.groups.session import Session, open_session
from mosaik.groups.when import When
from mosaik.primitives.cursor import Applied, Cursor, Index, IndexRange
from mosaik.primitives.digest import Digest, PeerId
from mosaik.primitives.entry import HEADER_SIZE, MAX_ENTRY_SIZE
from mosaik.primitives.errors import (
    CodecError,
    ConfigError,
    FrameTooLarge,
    HistoryLost,
    NoCommands,
)
from mosaik.primitives.session import SESSION_OVERHEAD
from mosaik.storage.backup_file import write_backup

__all__ = ["Group"]

C = TypeVar("C")
Q = TypeVar("Q")
R = TypeVar("R")

_MAX_COMMAND = MAX_ENTRY_SIZE - HEADER_SIZE - SESSION_OVERHEAD


class Group(Generic[C, Q, R]):
    """One handle of a group. Several handles may share one running group; the last one closes it.

    What it is asked to do begins when a method is called, not when its answer is awaited, and calls on
    one handle keep their order. Everything raises `GroupTerminated`, with the reason as its cause,
    once the group has ended.

    An outcome is one of three: the call returns (done); `Offline` (certainly not done; the commands
    come back in ``error.commands``); `OutcomeUnknown` (done or not done, nobody here can tell).
    """

    def __init__(self, running: RunningGroup) -> None:
        self._running = running
        self._replica = running.replica
        self._loop = asyncio.get_running_loop()
        self._encode = msgspec.msgpack.Encoder().encode
        self._check = msgspec.msgpack.Decoder(running.machine.command_type).decode
        self._open = True
        running.handles += 1

    # -- what it is ---------------------------------------------------------------------------------

    @property
    def id(self) -> Digest:
        """The group's id: equal on every node that may bond with it."""
        return self._running.config.group_id

    @property
    def config(self) -> GroupConfig:
        """Its key, its parameters, and what its id is made of."""
        return self._running.config

    @property
    def leader(self) -> PeerId | None:
        """Who leads, as far as this node knows."""
        return self._running.state.leader.value

    @property
    def is_leader(self) -> bool:
        """Whether this node leads."""
        return self.leader == self._running.node.peer

    def bonds(self) -> Bonds:
        """This node's bonds with other members; the view follows them."""
        return self._running.bonds

    @property
    def committed(self) -> Index:
        """The last entry that this node has applied."""
        return self._running.state.committed.value

    @property
    def log_position(self) -> Cursor:
        """The last entry of this node's log, committed or not."""
        return self._running.state.log.value

    def when(self) -> When:
        """Waits for the group to become something."""
        return When(self._running.state, self._running.node.peer)

    # -- commands and queries -----------------------------------------------------------------------

    def execute(self, command: C) -> Pending[Applied[R]]:
        """Replicates a command; resolves when this node's machine has applied it.

        Returns:
            The command's index, carrying the machine's answer as ``.result``.

        Raises:
            CodecError: the command is not one that the machine knows, or it is too long.
            Offline: certainly not done. OutcomeUnknown: done or not done.
            HistoryLost: the group forgot what it had acknowledged and refuses writes.
        """
        return self._give([command], many=False, feed=False)

    def execute_many(self, commands: Sequence[C]) -> Pending[AppliedRange[R]]:
        """Replicates commands in order, with no others between them (up to 1,024 of them).

        Returns:
            The range of their indices, carrying the machine's answers as ``.results``.

        Raises:
            NoCommands: there are none. Otherwise as `execute`.
        """
        return self._give(commands, many=True, feed=False)

    def feed(self, command: C) -> Pending[Index]:
        """Hands a command to the leader; resolves when the leader has appended it, before it is
        committed. Raises as `execute`."""
        return self._give([command], many=False, feed=True)

    def feed_many(self, commands: Sequence[C]) -> Pending[IndexRange]:
        """Hands commands to the leader; resolves when the leader has appended them. Raises as
        `execute_many`."""
        return self._give(commands, many=True, feed=True)

    def _give(self, commands: Sequence[C], *, many: bool, feed: bool) -> Pending[Any]:
        self._require_writable()
        commands = list(commands)
        if not commands:
            raise NoCommands("an empty batch of commands")
        return self._put(commands, self._encoded(commands), many=many, feed=feed)

    def _require_writable(self) -> None:
        running = self._running
        if running.over or not self._open:
            raise running.terminated()
        view = self._replica.view
        if view is not None and view.lost:
            raise HistoryLost(
                "a majority of this group's volatile stores forgot its history, so it takes no more "
                "commands; restart the node to forget it too"
            )

    def _put(
        self, commands: Sequence[Any], payloads: Sequence[bytes], *, many: bool, feed: bool
    ) -> Pending[Any]:
        pending: Pending[Any] = Pending(loop=self._loop)
        self._replica.pipeline.put(Call(commands, payloads, pending, many=many, feed=feed))
        self._replica.wake()
        return pending

    async def session(self, id: int | None = None) -> Session[C, Q, R]:
        """Opens a session, whose commands are applied once however often they have to be given.

        Args:
            id: of one that is open, to go on with it after a restart; see `Session.next`.

        Raises:
            HistoryLost: the group forgot what it had acknowledged and refuses writes.
        """
        return Session(self, id) if id is not None else await open_session(self)

    def give(self, command: Any, payload: bytes) -> Pending[Applied[Any]]:
        """Replicates a payload as it is, for a `Session`; outcomes as `execute` tells them."""
        self._require_writable()
        return self._put([command], [payload], many=False, feed=False)

    def encoded(self, command: C) -> bytes:
        """A command's bytes, proven to be one that the machine can read, for a `Session`.

        Raises:
            CodecError: it is not one, or it is too long.
        """
        return self._encoded([command])[0]

    def _encoded(self, commands: list[C]) -> list[bytes]:
        """The commands' bytes, proven to decode: what no machine can read must not enter the log."""
        encode, check = self._encode, self._check
        payloads: list[bytes] = []
        try:
            for command in commands:
                payload = encode(command)
                check(payload)
                payloads.append(payload)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            wrong = f"{commands[len(payloads)]!r:.200}"
            machine = type(self._running.machine).__name__
            raise CodecError(f"{wrong} is not a command of {machine}: {error}") from error
        longest = max(map(len, payloads))
        if longest > _MAX_COMMAND:
            raise FrameTooLarge(
                f"a command of {longest} bytes; the limit is {_MAX_COMMAND}. Store large values "
                "elsewhere and replicate a reference"
            )
        return payloads

    def query(self, query: Q, consistency: Consistency = Consistency.STRONG) -> Pending[R]:
        """Asks the state machine.

        Args:
            query: the question.
            consistency: what the answer may miss, see `Consistency`.

        Raises:
            QueryOffline: a strong answer could not be had in time.
            ConfigError: there is no such consistency.
        """
        try:
            wanted = Consistency(consistency)
        except ValueError as error:
            raise ConfigError(
                f"there is no consistency {consistency!r}; say Consistency.STRONG or Consistency.WEAK"
            ) from error
        if self._running.over or not self._open:
            raise self._running.terminated()
        pending: Pending[R] = Pending(loop=self._loop)
        if wanted is Consistency.STRONG:
            self._replica.reads.ask(query, pending)
            self._replica.wake()
        else:
            pending.set_result(self._running.machine.query(query))
        return pending

    # -- for whoever looks after it -----------------------------------------------------------------

    async def inspect(self) -> GroupReport:
        """Where the group stands on this node: who leads, who counts, the log and its store.

        Raises:
            StorageUnavailable: its store is not open.
        """
        return await report_on(self._running)

    def stream_backup(self) -> AsyncGenerator[bytes, None]:
        """A backup of what is committed, a piece at a time; see `backup`."""
        return stream_group(self._running)

    async def backup(self, path: str | os.PathLike[str]) -> int:
        """Writes all that is committed into a new file, while the group goes on.

        `mosaik log restore` makes a store of it. Whoever can read the file can read every command.

        Returns:
            The file's size in bytes.

        Raises:
            StorageUnavailable: there is such a file, it cannot be written, or the store is not open.
            StorageFull: there is no room for it. CorruptEntry: an entry is damaged.
        """
        return await write_backup(Path(path), self.stream_backup())

    # -- membership ---------------------------------------------------------------------------------

    async def transfer_leadership(self, peer: PeerId | None = None) -> None:
        """Hands leadership to ``peer``, or to the voter that has most of the log.

        Raises:
            GroupError: this node does not lead, or the other did not take over.
        """
        await self._running.transfer(peer)

    async def remove(self, peer: PeerId) -> None:
        """Removes a peer's replica from the group, as one that will not come back.

        Stop the peer first: one that still runs here and has the key asks to be taken in again.

        Raises:
            GroupError: it is no member. OutcomeUnknown: no leader answered; it may still happen.
        """
        await self._running.remove(peer)

    async def leave(self, *, end_history: bool = False) -> None:
        """Leaves the group for good: this node's replica is removed and its log forgotten.

        Args:
            end_history: leave even as the only voter, and with it end the history and all it holds.

        Raises:
            LastVoter: this is the only voter. OutcomeUnknown: no leader answered; it may still be a
                member. In both cases the group goes on here.
        """
        await self._running.leave(end_history=end_history)
        self._open = False
        self._running.handles -= 1

    # -- the end ------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Closes this handle. With the last one the group pauses on this node.

        A pause changes nothing for the others but that this replica is silent: it hands leadership
        over first and keeps its vote. A replica on memory storage leaves instead, unless it is the last
        voter. Closing twice does nothing.
        """
        if not self._open:
            return
        self._open = False
        self._running.handles -= 1
        if self._running.handles == 0:
            await self._running.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        if getattr(self, "_open", False):
            running = self._running
            if not running.over:
                warnings.warn(
                    f"{self!r} was never closed", ResourceWarning, stacklevel=2, source=self
                )
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(running.forgotten)

    def __repr__(self) -> str:
        state = "ended" if self._running.over or not self._open else "running"
        return f"<Group {self.id.short} {state}>"
