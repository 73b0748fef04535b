"""A client's side of a session: commands that are applied once, however often they have to be given."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

from mosaik.groups.sessions import MAX_ANSWERS, Answer, Expired
from mosaik.primitives.cursor import Applied
from mosaik.primitives.errors import GroupError, Offline, OutcomeUnknown, SessionExpired
from mosaik.primitives.session import SessionHeader, SessionOp, wrap

if TYPE_CHECKING:
    from mosaik.groups.group import Group

__all__ = ["Session"]

C = TypeVar("C")
Q = TypeVar("Q")
R = TypeVar("R")

#: Commands of one session that may be under way. Half of what replicas remember, so that stragglers fit.
_MAX_UNDER_WAY: Final = MAX_ANSWERS // 2
#: How long a client waits, at most, before it tries again after nobody took its command. Seconds.
_RETRY: Final = 0.1


class Session(Generic[C, Q, R]):
    """Commands that are applied once (thesis §6.3). `Group.session` opens one.

    Where `Group.execute` raises `OutcomeUnknown`, a session gives the command again under the same number,
    until it knows. Commands that are given before the first was answered may be applied in any order: await
    one before the next where it matters.

    Attributes:
        id: names it: a number that was drawn when it was opened.
    """

    def __init__(self, group: Group[C, Q, R], id: int) -> None:
        self._group = group
        self.id: Final = id
        self._next = 1
        #: Numbers without an answer, given up or not: replicas keep what they answer to these.
        self._open: set[int] = set()
        self._room = asyncio.Semaphore(_MAX_UNDER_WAY)
        self._closed = False

    @property
    def next(self) -> int:
        """The number of the next command. Whoever keeps it, with `id`, can go on after a restart."""
        return self._next

    async def execute(
        self, command: C, *, number: int | None = None, timeout: float | None = None
    ) -> Applied[R]:
        """Replicates a command, and gives it again until it is applied.

        Args:
            number: the one that the command had when it was given by a process that is gone; the next one
                when not given. Another command under the same number would get the first one's answer.
            timeout: give up after so many seconds; without, it takes as long as it takes.

        Returns:
            Where the command was applied, the first time, and what the machine answered.

        Raises:
            SessionExpired: replicas have forgotten the session.
            OutcomeUnknown: the time passed, and the command may be given again under its number; or it has
                a number that the session had an answer for.
            CodecError: the command is not one that the machine knows, or it is too long.
            GroupTerminated: the group ended on this node.
        """
        if self._closed:
            raise SessionExpired(f"session {self.id} was closed")
        payload = self._group.encoded(command)
        async with self._room:
            if number is None:
                number, self._next = self._next, self._next + 1
            else:
                self._next = max(self._next, number + 1)
            self._open.add(number)
            try:
                async with asyncio.timeout(timeout):
                    applied = await self._until_known(command, payload, number)
            except TimeoutError as error:
                raise OutcomeUnknown(
                    f"command {number} of session {self.id} has no answer after {timeout} s; give it again "
                    "under its number to learn what became of it",
                    [command],
                ) from error
            self._open.discard(number)
            return applied

    async def _until_known(self, command: C, payload: bytes, number: int) -> Applied[R]:
        while True:
            header = SessionHeader(SessionOp.COMMAND, self.id, number, min(self._open))
            try:
                applied = await self._group.give(command, wrap(header, payload))
            except (Offline, OutcomeUnknown):
                await _leader_back(self._group)
                continue
            answer = applied.result
            if isinstance(answer, Answer) and answer.at:
                return Applied(answer.at, answer.result)
            if isinstance(answer, Answer):
                self._open.discard(number)
                raise OutcomeUnknown(
                    f"session {self.id} has gone past command {number}, and its answer is not kept any more; "
                    "after a restart, give what had no answer before anything new",
                    [command],
                )
            assert isinstance(answer, Expired), answer
            raise SessionExpired(
                f"the replicas have forgotten session {self.id}: it was closed, was not used for a day of "
                "the log's time, or there were too many. What its last commands came to is not known: "
                "look before you repeat them in a new session"
            )

    async def close(self) -> None:
        """Lets the replicas forget the session. One that is not closed is forgotten in time."""
        if not self._closed:
            self._closed = True
            header = SessionHeader(SessionOp.CLOSE, self.id)
            with suppress(
                GroupError
            ):  # whatever kept it from them: they forget the session in time
                await self._group.give(None, wrap(header))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


async def open_session(group: Group[C, Q, R]) -> Session[C, Q, R]:
    """Opens one through the log."""
    # Enough that no two are ever equal; a positive number, for whoever keeps it in a database.
    id_ = int.from_bytes(os.urandom(8)) >> 1
    payload = wrap(SessionHeader(SessionOp.OPEN, id_))
    while True:
        try:
            await group.give(None, payload)
        except (Offline, OutcomeUnknown):
            await _leader_back(group)
        else:
            return Session(group, id_)


async def _leader_back(group: Group[Any, Any, Any]) -> None:
    """Waits until a command is likely to be taken again."""
    await group.when().online()
    # Online is what this node believes; a leader that has just died may still be believed in. So the next
    # attempt comes with news of the log, or after a moment.
    with suppress(TimeoutError):
        async with asyncio.timeout(_RETRY):
            await group.when().log().changed()
