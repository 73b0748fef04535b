"""What every replica remembers of sessions, so that a command that is given again is applied once.

Theory of operation
-------------------
A client that does not learn the outcome of a command has to give it again, and the log may then hold it
twice. The table here stands beside the state machine and is fed by the same log: for each session the
answers that its client may not have got yet, under the commands' numbers. A number that is there is
answered from the table; one below what the client said it has answers for is a straggler that nobody waits
for; any other is applied (thesis §6.3).

All of it is a function of the log alone. A session that was not used for `SESSION_MS` of the *log's* time
(the entries' own, which never goes back) is forgotten, and so is the one that was not used for longest when
there are more than `MAX_SESSIONS`, or more than `MAX_ANSWERS` to keep for one. These limits are constants of
the format: replicas that differed in them would part.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from mosaik.primitives.session import SessionHeader

__all__ = ["EXPIRED", "MAX_ANSWERS", "MAX_SESSIONS", "SESSION_MS", "Answer", "Expired", "Sessions"]

#: A session is kept for so many milliseconds of the log's time after it was used last: one day.
SESSION_MS: Final = 24 * 60 * 60 * 1000
#: So many are kept.
MAX_SESSIONS: Final = 10_000
#: And so many answers for each.
MAX_ANSWERS: Final = 1024


class Answer(NamedTuple):
    """What a command was answered when it was applied.

    Attributes:
        at: the index where it was applied.
    """

    at: int
    result: Any


class Expired:
    """The answer to a command of a session that is not there (any more): it was not applied."""

    def __repr__(self) -> str:
        return "expired"


EXPIRED: Final = Expired()


class _Session:
    __slots__ = ("answers", "floor", "used")

    def __init__(self, used: int) -> None:
        self.used = used
        self.floor = 0
        self.answers: dict[int, Answer] = {}


class Sessions:
    """The sessions that one log has open, at the entry that was applied last."""

    def __init__(self) -> None:
        #: In the order of last use.
        self._sessions: dict[int, _Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def clear(self) -> None:
        """Begins again, as the machine does."""
        self._sessions = {}

    def open(self, session: int, time_ms: int) -> None:
        """A client opens a session; opened once more, it goes on."""
        self._expire(time_ms)
        known = self._sessions.pop(session, None) or _Session(time_ms)
        known.used = time_ms
        self._sessions[session] = known
        while len(self._sessions) > MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]

    def close(self, session: int) -> None:
        """A client needs its session no more."""
        self._sessions.pop(session, None)

    def find(self, header: SessionHeader, time_ms: int) -> Answer | Expired | None:
        """What is known of a command; None when it has to be applied."""
        self._expire(time_ms)
        session = self._sessions.pop(header.session, None)
        if session is None:
            return EXPIRED
        session.used = time_ms
        if header.floor > session.floor:
            session.floor = header.floor
            session.answers = {n: a for n, a in session.answers.items() if n >= header.floor}
        known = session.answers.get(header.number)
        if known is None and header.number >= session.floor and len(session.answers) >= MAX_ANSWERS:
            return EXPIRED  # and forgotten: a client that never says what it has got
        self._sessions[header.session] = session
        if known is None and header.number < session.floor:
            return Answer(0, None)  # nobody waits for it
        return known

    def keep(self, header: SessionHeader, answer: Answer) -> None:
        """A command that had to be applied was answered."""
        self._sessions[header.session].answers[header.number] = answer

    def _expire(self, time_ms: int) -> None:
        while self._sessions:
            session, state = next(iter(self._sessions.items()))
            if time_ms - state.used <= SESSION_MS:
                return
            del self._sessions[session]
