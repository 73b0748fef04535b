"""One group running on this node: from the opening of its store to its end.

Theory of operation
-------------------
One task owns the life of a group: open the store, rebuild consensus from it, serve until the store
fails or somebody stops, and either open again or end. Nothing else opens or closes anything.

A failed write poisons the opening of the store. What the disk holds is unknown then, so the replica
stops leading, voting and acknowledging at once, and a new one is built from what the store shows after
it was opened again; never from memory. The state machine goes on only if the store still holds the very
entry that was applied last, by its chained checksum; otherwise it is reset and replayed. Bonds stay.
After `MAX_FAILURES` in a row, or at once when opening again cannot help, the group ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
from collections.abc import Callable
from typing import Any, Final

from mosaik.consensus import LAST_VOTER, Consensus, Leave, Refused, Transfer
from mosaik.groups.bond import BondTable
from mosaik.groups.config import GroupConfig
from mosaik.groups.founding import Founding
from mosaik.groups.mesh import Mesh
from mosaik.groups.node import Node
from mosaik.groups.opening import OpenedLog, StorageChoice, open_log
from mosaik.groups.replica import Replica
from mosaik.groups.watch import State
from mosaik.machines.machine import StateMachine
from mosaik.primitives.errors import (
    CorruptEntry,
    GroupError,
    GroupTerminated,
    InvalidBatch,
    LastVoter,
    MosaikError,
    OutcomeUnknown,
    StorageError,
    StorageFormatTooNew,
    StorageMismatch,
    StoragePoisoned,
)

__all__ = ["MAX_FAILURES", "RunningGroup"]

log = logging.getLogger("mosaik.groups")

#: A store that has failed so often in a row ends the group.
MAX_FAILURES: Final = 3
#: A store that has served for so many seconds has its earlier failures forgiven.
_FORGIVEN_AFTER: Final = 60.0
#: Seconds before a failed store is opened again; doubles with each failure.
_FIRST_PAUSE: Final = 0.1
#: Opening again would find the same.
_HOPELESS: Final = (CorruptEntry, StorageMismatch, StorageFormatTooNew, InvalidBatch)


class RunningGroup:
    """A group on this node, shared by all handles of it.

    Args:
        node: where it runs.
        config: which group.
        machine: what it replicates.
        storage: where its log is kept.
        after: an earlier run of the same group that has to end before the store is opened.
        ended: is called when this run is over.
        poisoned: is called when the store was poisoned, which concerns all groups in it.
    """

    def __init__(
        self,
        node: Node,
        config: GroupConfig,
        machine: StateMachine[Any, Any, Any],
        storage: StorageChoice,
        after: asyncio.Task[None] | None,
        ended: Callable[[RunningGroup], None],
        poisoned: Callable[[RunningGroup, StoragePoisoned], None],
    ) -> None:
        self.node = node
        self.config = config
        self.machine = machine
        self.storage = storage
        self.handles = 0
        self.state = State()
        self._loop = asyncio.get_running_loop()
        self._ended = ended
        self._poisoned = poisoned
        self._cause: BaseException | None = None
        self.over = False
        """The group has ended, or is about to."""
        self.closing = False
        """Its last handle is being closed; whoever joins now starts the next run."""
        self._retire = False
        self._volatile = True
        self._served = False
        self.opened: OpenedLog | None = None
        """The log, while it is open."""
        self._stop = asyncio.Event()
        #: Ends a serving: with the store's error, with None to stop, or raising what ends the group.
        self._broken: asyncio.Future[StorageError | None] = self._loop.create_future()
        self.bonds = BondTable()
        self.replica = Replica(
            node.peer,
            config,
            machine,
            self.bonds,
            self.state,
            broken=self._break,
            fatal=self._fatal,
        )
        self.mesh = Mesh(node, config, self.bonds, self.replica)
        self._founding = Founding(config, self.bonds, self._has_history)
        name = f"mosaik group {config.group_id.short}"
        self.task = self._loop.create_task(self._run(after), name=name)

    # -- opening, serving, opening again ------------------------------------------------------------

    async def _run(self, after: asyncio.Task[None] | None) -> None:
        if after is not None:
            await asyncio.wait([after])
        try:
            await self._live()
        except MosaikError as error:
            log.error("%s: ended: %s", self.config, error)  # noqa: TRY400 - the caller gets it whole
            self._cause = error
        except Exception as error:
            log.exception("%s: ended by a bug in mosaik; please report it", self.config)
            self._cause = error
        finally:
            await self._shut_down()

    async def _live(self) -> None:
        failures = 0
        while not self._stop.is_set():
            began = self._loop.time()
            try:
                await self._serve_once()
            except StorageError as error:
                if not self._served or isinstance(error, _HOPELESS):
                    raise
                forgiven = self._loop.time() - began > _FORGIVEN_AFTER
                failures = 1 if forgiven else failures + 1
                if failures >= MAX_FAILURES:
                    raise
                pause = _FIRST_PAUSE * 2**failures
                log.error(  # noqa: TRY400 - its text is all there is to say
                    "%s: the store failed (%d of %d): %s; opening it again in %.1f s",
                    self.config,
                    failures,
                    MAX_FAILURES,
                    error,
                    pause,
                )
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), pause)

    async def _serve_once(self) -> None:
        """Returns when the group is to stop.

        Raises:
            StorageError: the store failed. MosaikError: the group cannot go on.
        """
        config = self.config
        opened = await open_log(
            self.storage,
            config,
            self.node,
            self.machine.command_type,
            self.replica.applier.applied,
        )
        try:
            if opened.checksum_at_applied != self.replica.applier.checksum:
                self.replica.applier.restart()
            self._volatile = opened.volatile
            parameters = config.consensus.parameters(config.group_id, volatile=opened.volatile)
            rng = random.Random(os.urandom(32))  # noqa: S311 - spreads timers, protects nothing
            core = Consensus(parameters, opened.recovered, rng, self._loop.time())
            if self._stop.is_set():
                return
            self._broken = self._loop.create_future()
            self.opened = opened
            self.replica.attach(core, opened)
            if not self._served:
                self._served = True
                if not core.view.history:
                    self._founding.begin(volatile=opened.volatile)
                self.node.add_group(config.group_id)
                self.mesh.start()
            error = await self._until_broken()
            if error is not None:
                raise error
            if self._retire:
                await opened.retire()
        finally:
            self.opened = None
            self.replica.detach()
            await opened.close()

    @property
    def store_key(self) -> str:
        """Names the opened store; empty while it is not open."""
        return self.opened.key if self.opened is not None else ""

    async def _until_broken(self) -> StorageError | None:
        return await self._broken

    def _break(self, error: StorageError) -> None:
        self.replica.detach()
        if not self._broken.done():
            self._broken.set_result(error)
            if isinstance(error, StoragePoisoned):
                self._poisoned(self, error)

    def store_poisoned(self, key: str, error: StoragePoisoned) -> None:
        """Another group found the store of this key poisoned."""
        if key == self.store_key:
            self._break(error)

    def _fatal(self, error: MosaikError) -> None:
        self.replica.detach()
        if not self._broken.done():
            self._broken.set_exception(error)

    def _request_stop(self) -> None:
        self.over = True
        self._stop.set()
        if not self._broken.done():
            self._broken.set_result(None)

    def _has_history(self) -> bool:
        return self.replica.view is not None and bool(self.replica.view.history)

    async def _shut_down(self) -> None:
        self.over = True
        self._founding.end()
        self.replica.stop(self.terminated)
        if self._served:
            self.node.remove_group(self.config.group_id)
        await self.mesh.stop("the group was closed", self.terminated)
        self.state.end(self.terminated)
        self._ended(self)

    # -- what handles ask for -----------------------------------------------------------------------

    def terminated(self) -> GroupTerminated:
        """The error that tells of the end, with its cause."""
        why = f": {self._cause}" if self._cause is not None else ""
        error = GroupTerminated(
            f"the group {self.config.group_id.short} has ended on this node{why}"
        )
        error.__cause__ = self._cause
        return error

    async def close(self) -> None:
        """Pauses this replica: hands leadership over, says goodbye, closes the store."""
        self.closing = True
        if not self.over:
            try:
                await self._hand_over()
            finally:
                self._request_stop()
        await asyncio.wait([self.task])

    async def _hand_over(self) -> None:
        view = self.replica.view
        if view is None or not view.founded:
            return
        others = len(view.configuration.voters) > 1
        if self._volatile:
            # What a store in memory knew is gone with it, so its vote is given back.
            await self._try(Leave, others)
        elif view.leading and others:
            await self._try(Transfer, others)

    async def _try(self, request: Callable[[int], Leave | Transfer], others: bool) -> None:
        """Asks for something that closing goes on without: in time, or when nobody is left to grant it."""
        if not others and self.bonds.is_empty:
            return
        asked = self._loop.create_task(self.replica.ask(request))
        alone = self._loop.create_task(self._until_alone())
        try:
            await asyncio.wait(
                [asked, alone],
                timeout=2 * self.config.consensus.election_timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not asked.done():
                log.info("%s: closes without an answer from the others", self.config)
        finally:
            asked.cancel()
            alone.cancel()
            await asyncio.wait([asked, alone])
            if not asked.cancelled():
                asked.exception()  # an outcome that nobody waits for any more

    async def _until_alone(self) -> None:
        while not self.bonds.is_empty:
            await self.bonds.changed()

    def forgotten(self) -> None:
        """A handle was dropped without being closed."""
        self.handles -= 1
        if self.handles == 0 and not self.over:
            self._request_stop()

    async def leave(self, *, end_history: bool) -> None:
        """Removes this replica from the group for good and forgets its log."""
        await self._ask(lambda token: Leave(token, None, end_history), "leave")
        self._retire = True
        self._request_stop()
        await asyncio.wait([self.task])

    async def remove(self, peer: bytes) -> None:
        """Removes another peer's replica for good."""
        await self._ask(lambda token: Leave(token, peer), "remove")

    async def transfer(self, peer: bytes | None) -> None:
        """Hands leadership over."""
        await self._ask(lambda token: Transfer(token, peer), "transfer_leadership")

    async def _ask(self, request: Callable[[int], Leave | Transfer], what: str) -> None:
        if self.over:
            raise self.terminated()
        consensus = self.config.consensus
        patience = consensus.forward_timeout + 4 * consensus.election_timeout
        try:
            answer = await asyncio.wait_for(self.replica.ask(request), patience)
        except TimeoutError:
            raise OutcomeUnknown(
                f"{what}: no answer within {patience:g} s; it may still happen"
            ) from None
        if isinstance(answer, Refused):
            if answer.reason == LAST_VOTER:
                raise LastVoter(
                    "the only voter cannot leave: that would end the history and all it holds; "
                    "leave(end_history=True) does so"
                )
            raise GroupError(f"{what}: {answer.reason}")
