"""The order and the outcome of commands that were given on this node.

Theory of operation
-------------------
Commands wait in one queue, in the order in which they were given. They leave it in *flights*: as many
as one message holds, to the leader of one term, who is this node or another. A flight is

* *sent*, until the leader answers: refused (certainly not done), or accepted at ``first`` in ``term``;
* *accepted*, until this node's machine has applied those indices.

What happened is then read off the log, never guessed. An applied entry of the flight's own term at the
flight's index is the command itself (log matching, thesis §3.5). As terms only rise along a log, the
first applied entry of a higher term proves that no entry of the flight's term follows it: whatever of
the flight was not applied by then is certainly not done. To trust the index alone would report success
for somebody else's command.

Calls keep their order because flights in the air always belong to one leader of one term, a *stream*:

* within a stream, links and logs keep the order, and a leader that refused once in a term never
  accepts in it again;
* a new stream begins only when every flight of the old one is decided;
* when a flight fails, everything given after it and not applied yet fails with it. (A flight that is
  still unanswered then is *doomed*: its answer only decides how it fails.)

A leader that falls silent decides nothing. Once the stream's leader is not the leader any more, or has
not answered, for ``patience`` seconds, its flights end as *unknown*.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple, Protocol

from mosaik.groups.call import Call
from mosaik.primitives.entry import Entry
from mosaik.primitives.errors import MosaikError

__all__ = ["MAX_FLIGHT", "Leadership", "Pipeline", "Port"]

#: Commands in one flight: what a leader seals in one turn of its event loop without stalling it.
MAX_FLIGHT: Final = 1024
#: And bytes, unless one command is larger.
MAX_FLIGHT_BYTES: Final = 512 * 1024
#: Commands in the air from one node; the rest wait in its own memory, not in the leader's.
MAX_IN_AIR: Final = 16 * 1024
MAX_BYTES_IN_AIR: Final = 16 * 1024 * 1024

_term = attrgetter("term")


class Leadership(NamedTuple):
    """Who leads, as far as this node knows."""

    peer: bytes
    term: int


class Port(Protocol):
    """The way to a leader."""

    def dispatch(self, leadership: Leadership, token: int, payloads: Sequence[bytes]) -> bool:
        """Hands a flight to the leader; False when there is no way to reach it."""
        ...


class _Flight:
    """Commands that were handed to one leader together."""

    __slots__ = ("doomed", "first", "landed", "owners", "sent", "size", "token")

    def __init__(self, token: int, owners: list[Call], size: int, sent: float) -> None:
        self.token = token
        self.owners = owners
        self.size = size
        self.sent = sent
        #: The index of its first command, once it was accepted.
        self.first = 0
        #: How many of its commands were applied.
        self.landed = 0
        self.doomed = False


class Pipeline:
    """All commands of this node that are not decided yet.

    Args:
        port: hands flights to the leader.
        patience: seconds after which a silent leader makes an outcome unknown.
    """

    def __init__(self, port: Port, patience: float) -> None:
        self._port = port
        self._patience = patience
        self._queue: deque[Call] = deque()
        self._queued = 0
        #: Flights without an answer, and then the accepted ones; each in the order of their sending.
        self._sent: deque[_Flight] = deque()
        self._accepted: deque[_Flight] = deque()
        self._stream: Leadership | None = None
        self._astray_since = float("inf")
        self._next_token = 1
        self._in_air = 0
        self._bytes_in_air = 0

    def __len__(self) -> int:
        """Commands that are not decided yet."""
        return self._queued + self._in_air

    @property
    def queued(self) -> bool:
        """Some commands have not been sent yet."""
        return bool(self._queue)

    @property
    def deadline(self) -> float:
        """When `advance` has to be called again at the latest, if nothing else happens."""
        oldest = self._sent[0].sent if self._sent else float("inf")
        return min(oldest, self._astray_since) + self._patience

    # -- towards the leader -------------------------------------------------------------------------

    def put(self, call: Call) -> None:
        """Takes the commands of one call."""
        self._queue.append(call)
        self._queued += len(call.payloads)

    def advance(
        self, leadership: Leadership | None, now: float, why: str = "no leader is known"
    ) -> bool:
        """Sends what may be sent; True when more could be sent in a later turn.

        Args:
            leadership: who leads at this moment, if anything can be given to him.
            now: the event loop's clock.
            why: what to say of commands that cannot be given to anybody.
        """
        if self._sent or self._accepted:
            self._watch(leadership, now)
            if leadership != self._stream and (self._sent or self._accepted):
                return False
        if not self._queue:
            return False
        if leadership is None:
            self._drop_queue(why)
            return False
        if self._in_air >= MAX_IN_AIR or self._bytes_in_air >= MAX_BYTES_IN_AIR:
            return False
        self._send(leadership, now)
        return bool(self._queue)

    def _watch(self, leadership: Leadership | None, now: float) -> None:
        """Gives up on a leader that has been silent, or not the leader, for too long."""
        if leadership == self._stream:
            self._astray_since = float("inf")
        elif self._astray_since > now:
            self._astray_since = now
        if now >= self.deadline:
            self._fail_all_unknown("the leader fell silent or changed in flight")

    def _send(self, leadership: Leadership, now: float) -> None:
        owners, payloads, size = self._take()
        flight = _Flight(self._next_token, owners, size, now)
        self._next_token += 1
        if not self._port.dispatch(leadership, flight.token, payloads):
            self._in_air += len(owners)
            self._bytes_in_air += size
            why = "the leader cannot be reached from here"
            self._abandon([flight], why)
            self._drop_queue(why)
            return
        self._stream = leadership
        self._astray_since = float("inf")
        self._sent.append(flight)
        self._in_air += len(owners)
        self._bytes_in_air += size

    def _take(self) -> tuple[list[Call], list[bytes], int]:
        """As many commands as one flight holds, and whose they are."""
        queue = self._queue
        owners: list[Call] = []
        payloads: list[bytes] = []
        size = 0
        while queue:
            call = queue[0]
            for payload in call.payloads[call.sent :] if call.sent else call.payloads:
                size += len(payload)
                if owners and (size > MAX_FLIGHT_BYTES or len(owners) == MAX_FLIGHT):
                    self._queued -= len(owners)
                    return owners, payloads, size - len(payload)
                owners.append(call)
                payloads.append(payload)
                call.sent += 1
            queue.popleft()
        self._queued -= len(owners)
        return owners, payloads, size

    # -- from the leader ----------------------------------------------------------------------------

    def accepted(self, token: int, first: int, term: int, applied: int) -> None:
        """The leader appended a flight.

        Args:
            token: which one.
            first: the index of its first command.
            term: the term it was appended in.
            applied: the last index this node has applied.
        """
        if not self._sent or self._sent[0].token != token:
            return  # decided meanwhile
        flight = self._sent.popleft()
        flight.first = first
        if flight.doomed:
            self._lose(flight, "a command given before it failed")
        elif self._stream is None or term != self._stream.term or first <= applied:
            self._lose(flight, "the leader's answer came too late to tell")
            self._doom("a command given before it has an unknown outcome")
        else:
            self._accepted.append(flight)
            for index, call in enumerate(flight.owners, first):
                call.accepted(index)

    def refused(self, token: int, reason: str) -> None:
        """The leader did not append a flight and will not."""
        if self._sent and self._sent[0].token == token:
            self._abandon([self._sent.popleft()], reason)
            self._doom("a command given before it failed")

    def unreachable(self, peer: bytes) -> None:
        """The link to a peer is gone, and with it the answers that it had not given."""
        if self._sent and self._stream is not None and self._stream.peer == peer:
            why = "the link to the leader broke before it answered"
            while self._sent:
                self._lose(self._sent.popleft(), why)
            self._drop_queue("a command given before it has an unknown outcome")

    # -- from the log -------------------------------------------------------------------------------

    def landed(self, entries: Sequence[Entry[Any]], results: Sequence[Any]) -> None:
        """This node's machine applied these consecutive entries; ``results`` stand beside them."""
        if self._stream is None or not (self._accepted or self._sent):
            return
        term = self._stream.term
        low, high = 0, len(entries)
        if entries[0].term != term or entries[-1].term != term:
            low = bisect_left(entries, term, key=_term)
            high = bisect_right(entries, term, key=_term)
        self._land(entries[0].index, results, low, high)
        if high < len(entries):
            self._overtaken(entries[high].term)

    def _land(self, base: int, results: Sequence[Any], low: int, high: int) -> None:
        """Entries at ``base + low`` up to ``base + high`` (excluded) are of the stream's term."""
        while self._accepted:
            flight = self._accepted[0]
            at = flight.first + flight.landed - base
            if at >= high:
                return
            if at < low:
                self._overtaken(0)
                return
            count = min(high - at, len(flight.owners) - flight.landed)
            for offset in range(count):
                owner = flight.owners[flight.landed + offset]
                owner.applied(base + at + offset, results[at + offset])
            flight.landed += count
            if flight.landed == len(flight.owners):
                self._accepted.popleft()
                self._release(flight)

    def _overtaken(self, term: int) -> None:
        """An entry that the stream's term cannot follow was applied: nothing more of it will be."""
        why = f"an entry of term {term} took its place" if term else "another entry took its place"
        failed = bool(self._accepted or self._sent)
        self._abandon(_drained(self._accepted), why)
        while self._sent:
            self._lose(self._sent.popleft(), "the leader changed before it answered")
        if failed:
            self._drop_queue("a command given before it failed")

    # -- failing ------------------------------------------------------------------------------------

    def discard(self, why: str) -> None:
        """The history ended and never held a command: everything is certainly not done."""
        self._abandon([*_drained(self._accepted), *_drained(self._sent)], why)
        self._drop_queue(why)

    def raise_all(self, error: Callable[[], MosaikError]) -> None:
        """Everything undecided ends with this error."""
        for flights in (self._accepted, self._sent):
            while flights:
                flight = flights.popleft()
                self._release(flight)
                for call in flight.owners:
                    call.ends(error)
        while self._queue:
            self._queue.popleft().ends(error)
        self._queued = 0

    def _fail_all_unknown(self, why: str) -> None:
        for flights in (self._accepted, self._sent):
            while flights:
                self._lose(flights.popleft(), why)
        self._drop_queue("a command given before it has an unknown outcome")

    def _doom(self, why: str) -> None:
        for flight in self._sent:
            flight.doomed = True
        self._drop_queue(why)

    def _drop_queue(self, why: str) -> None:
        while self._queue:
            self._queue.popleft().not_done(why)
        self._queued = 0

    def _abandon(self, flights: Sequence[_Flight], why: str) -> None:
        """Nothing more of these flights is done. All are excluded before any call hears of it, since
        one call may stand in several."""
        left = [call for flight in flights for call in flight.owners[flight.landed :]]
        for call in left:
            call.excluded += 1
        for call in left:
            call.not_done(why)
        for flight in flights:
            self._release(flight)

    def _lose(self, flight: _Flight, why: str) -> None:
        self._release(flight)
        for call in flight.owners[flight.landed :]:
            call.unknown(why)

    def _release(self, flight: _Flight) -> None:
        self._in_air -= len(flight.owners)
        self._bytes_in_air -= flight.size
        if not (self._sent or self._accepted):
            self._astray_since = float("inf")


def _drained(flights: deque[_Flight]) -> list[_Flight]:
    taken = list(flights)
    flights.clear()
    return taken
