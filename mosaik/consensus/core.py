"""The state of one replica, and the few ways in which it may change.

Theory of operation
-------------------
`Core` is plain data plus the helpers that keep it honest. What to do about an input is decided in the
modules beside this one (`election`, `replication`, `following`, `reads`, `genesis`, …); each is a set
of functions over a `Core`. They reach the world through two doors only:

* ``core.send`` queues a message;
* ``core.mark_dirty`` / ``core.log`` change what is durable, and the end of the step turns all such
  changes into one `Write`.

**No message leaves before the hard state it rests on is durable** (see `outbox`). Entries need no such
wait: a leader may replicate what its own disk still writes (thesis §10.2.1), because it counts itself
only up to ``log.stable``, and a follower acknowledges only up to there.

At most one write is in flight. What changes meanwhile gathers for the next: group commit by structure.
"""

from __future__ import annotations

import random
from enum import StrEnum
from typing import Any

from mosaik.consensus.effects import (
    Accepted,
    Done,
    Effects,
    Event,
    Fetch,
    Notice,
    Outgoing,
    ReadReady,
    Refused,
    Write,
)
from mosaik.consensus.inputs import Recovered, Submit
from mosaik.consensus.landmarks import Landmarks
from mosaik.consensus.log import Log
from mosaik.consensus.messages import AnyBody, ClientClass, Envelope, Target
from mosaik.consensus.neighbour import Neighbour
from mosaik.consensus.outbox import Context, Outbox
from mosaik.consensus.parameters import Parameters
from mosaik.consensus.progress import Progress
from mosaik.consensus.status import status_of
from mosaik.primitives.cursor import Cursor
from mosaik.primitives.durable import Anchor, HardState, WriteBatch
from mosaik.primitives.entry import Entry, EntryKind, seal
from mosaik.primitives.errors import InternalError
from mosaik.primitives.membership import (
    Configuration,
    Member,
    Replica,
    Role,
)

__all__ = ["Core", "Standing"]

Answer = Accepted | Refused | ReadReady | Done


class Standing(StrEnum):
    """What a replica is doing about leadership (thesis §3.4; the pre-candidate is §9.6)."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class Core:
    """One replica's state. Use `mosaik.consensus.Consensus`, which steps it."""

    def __init__(
        self, parameters: Parameters, recovered: Recovered, rng: random.Random, now: float
    ) -> None:
        self.parameters = parameters
        self.rng = rng
        self.now = now
        self.wall_ms = 0
        self.effects = Effects()

        hard = recovered.hard_state
        if not hard.store:
            raise InternalError("a replica cannot start from a log that has no store id")
        # Durable: every change goes with mark_dirty().
        self.me = Replica(recovered.peer, hard.store, hard.life)
        self.term = hard.term
        self.voted_for = hard.voted_for
        self.history = hard.history
        self.attempt = hard.attempt
        end = recovered.tail.index
        self.marks = Landmarks.recover(hard, recovered.configurations, end)
        self.dissolved = dict(hard.dissolved)
        self.quarantine = hard.quarantine
        self.floors = dict(hard.floors)
        self.log = Log(
            recovered.anchor,
            recovered.tail,
            recovered.term_starts,
            recovered.newest,
            keep_entries=parameters.tail_entries,
            keep_bytes=parameters.tail_bytes,
        )
        #: The last index of a damaged tail, and the highest term that an entry of it may have had; while
        #: set this replica does not lead, and neither counts nor votes as one whose log ends earlier.
        self.suspect = recovered.suspect
        self.suspect_cursor = Cursor(recovered.suspect_term, recovered.suspect)
        #: Whatever the damaged tail held was acknowledged in this term or earlier.
        self.suspect_term = hard.term

        self.commit = recovered.anchor.index
        self._follow_afresh(now)
        self._lead_afresh(now)
        self._ask_afresh()
        self._belong_afresh(now, heard_append=recovered.tail.index > 0)
        self.outbox = Outbox()
        self._dirty = False
        self._floors_dirty = False
        self._floors_due = now
        self._status_due = False

    # What a restart forgets, by what it is for. Timers are points in time that `step` compares with now.

    def _follow_afresh(self, now: float) -> None:
        self.standing = Standing.FOLLOWER
        self.leader: Replica | None = None
        self.online = False
        self.votes: dict[Replica, bool] = {}
        self.neighbours: dict[bytes, Neighbour] = {}
        self.progress: dict[Replica, Progress] = {}
        self.election_due = float("inf")
        self.heartbeat_due = float("inf")
        self.leader_heard = float("-inf")
        #: When this replica last led, or heard from whoever does.
        self.included = now
        #: Since when no leader is known; for reporting that the quorum is lost.
        self.leaderless_since = now
        self.quorum_lost = False
        #: Until when a vote is asked again quickly, after the leader's process was seen to die.
        self.hurry_until = float("-inf")

        #: Highest index known to agree with this term's leader.
        self.matched = 0
        #: The newest round of the leader to echo.
        self.leader_round = 0
        self.acknowledged = 0
        self.answered_round = 0

    def _lead_afresh(self, now: float) -> None:
        self.round = 0
        self.round_times: dict[int, float] = {}
        self.broadcast_due = False
        self.led_since = now
        self.quorum_confirmed = float("-inf")
        self.log_end_before = 0
        self.joiners: dict[bytes, Member] = {}
        #: Replicas to be removed, and who wants to hear of it: tokens of ours, or other members.
        self.removing: dict[Replica, list[int | Replica]] = {}

    def _ask_afresh(self) -> None:
        #: Commands that arrived before the history was founded.
        self.submitted_early: list[Submit] = []
        self.reads_waiting: list[tuple[int, Replica | None]] = []
        self.reads_confirming: list[tuple[int, int, int, Replica | None]] = []
        #: Reads that a leader was asked to confirm: the nonce, the caller's token, and who was asked.
        self.reads_remote: dict[int, tuple[int, Replica]] = {}
        self.transfer_token: int | None = None
        self.transfer_target: Replica | None = None
        self.transfer_deadline = float("inf")
        self.transfer_sent = False
        self.leave_token: int | None = None
        self.leave_asked = float("-inf")
        #: Removals asked of the leader: the token, and when it was last asked.
        self.remote_removals: dict[Replica, tuple[int, float]] = {}

    def _belong_afresh(self, now: float, *, heard_append: bool) -> None:
        self.quiet_until = now + self.parameters.bootstrap_delay
        self.eligible_since: float | None = None
        self.seen_attempts: dict[bytes, float] = {}
        #: Founders known to have accepted our attempt; making a proposal is accepting it.
        self.accepts: set[Replica] = {self.me, self.attempt.proposer} if self.attempt else set()
        self.attempt_since = now
        self.propose_due = now
        self.join_since = now
        self.join_asked = float("-inf")
        #: When a pristine replica last asked everybody for a status.
        self.asked_around = now
        self.heard_append = heard_append
        #: Histories with commands that this one, or this pristine replica, cannot be merged with.
        self.divergent: frozenset[bytes] = frozenset()
        self.lost = False
        #: The voters that are gone, and the nonce under which others are asked what they hold since.
        self.loss: tuple[frozenset[Replica], int] = (frozenset(), 0)
        #: This replica was removed at its own request.
        self.left = False
        #: Index of a dissolve entry that is being fetched from the store.
        self.dissolve_fetch = 0

    # -- who and what -------------------------------------------------------------------------------

    @property
    def configuration(self) -> Configuration:
        """The newest configuration in the log, committed or not (thesis §4.1)."""
        return self.marks.configuration

    @property
    def config_index(self) -> int:
        """Where it stands."""
        return self.marks.config_index

    @property
    def is_leader(self) -> bool:
        return self.standing is Standing.LEADER

    @property
    def pristine(self) -> bool:
        """This life is bound to no history."""
        return not self.history

    @property
    def founded(self) -> bool:
        """The log holds ``FOUNDED``; in force from the moment it is appended."""
        return self.marks.founded > 0

    @property
    def established(self) -> bool:
        """``FOUNDED`` is committed: from here on the history takes commands, reads and changes."""
        return 0 < self.marks.founded <= self.commit

    @property
    def fenced(self) -> bool:
        """The log holds ``DISSOLVE``; nothing but no-ops may follow."""
        return self.marks.dissolve > 0

    @property
    def vouched(self) -> Cursor:
        """Beyond this, nothing was ever acknowledged by this replica: where its log ends, or once ended.

        A candidate whose log is not behind it holds whatever this replica helped to commit, which is all
        that the election restriction asks (thesis §3.6.1); so a damaged tail need not silence a voter.
        """
        return self.suspect_cursor if self.suspect else self.log.last_cursor

    @property
    def able(self) -> bool:
        """Whether this store may lead, and stand for it."""
        return not self.quarantine and not self.suspect

    @property
    def is_voter(self) -> bool:
        return self.me in self.configuration.voters

    @property
    def client_class(self) -> ClientClass:
        first = self.marks.first_command
        if not first:
            return ClientClass.NONE
        return ClientClass.SOME if first <= self.commit else ClientClass.PENDING

    def bonded(self, replica: Replica) -> bool:
        return replica.peer in self.neighbours

    def doubtful(self, replica: Replica) -> bool:
        """Whether its store shows less than it once acknowledged: nothing that it says is counted."""
        neighbour = self.neighbours.get(replica.peer)
        if neighbour is None or not neighbour.doubtful:
            return False
        # The doubt is about the replica that spoke then; its peer may be somebody new by now.
        return neighbour.replica == replica and replica in self.floors

    def member(self, role: Role) -> Member:
        """This replica, as a configuration would list it."""
        p = self.parameters
        return Member(
            replica=self.me,
            role=role,
            observer=p.observer,
            volatile=p.volatile,
            reluctance=p.reluctance,
        )

    # -- speaking -----------------------------------------------------------------------------------

    def send(self, to: Replica, body: AnyBody) -> None:
        """Says something to a replica, once the hard state it rests on is durable."""
        self._post(to.peer, Target(to.store, to.life), body)

    def send_peer(self, peer: bytes, body: AnyBody) -> None:
        """Says something to whoever this peer is now."""
        self._post(peer, Target(b"", 0), body)

    def _post(self, peer: bytes, target: Target, body: AnyBody) -> None:
        if peer not in self.neighbours:
            return
        outgoing = Outgoing(peer, Envelope(self.history, self.me, target, body))
        self.outbox.post(outgoing, self._context(), self.effects.send)

    def _context(self) -> Context:
        return Context(self.term, self.history, self.me.life)

    def announce(self) -> None:
        """Tells every bonded peer our status at the end of this step."""
        self._status_due = True

    def want(self, index: int) -> None:
        """Asks the store for one entry that has left memory."""
        self.effects.fetch.append(Fetch(index, index, self.parameters.message_bytes))

    def answer(self, answer: Answer) -> None:
        self.effects.answers.append(answer)

    def report(self, notice: Notice, detail: str = "") -> None:
        self.effects.events.append(Event(notice, detail))

    # -- what is durable ----------------------------------------------------------------------------

    def mark_dirty(self) -> None:
        """The hard state changed: the next write carries it, and what is said from now on waits."""
        self._dirty = True
        self.outbox.mark()

    def raise_floor(self, replica: Replica, seen: Cursor) -> None:
        """Remembers the highest (term, match) of a replica.

        Written along with something else, at most once a heartbeat: it is a best effort, and must not
        make every append carry the hard state.
        """
        if seen > self.floors.get(replica, Cursor(-1, 0)):
            self.floors[replica] = seen
            self._floors_dirty = True

    def adopt_term(self, term: int, leader: Replica | None = None) -> None:
        """Enters a higher term as a follower that has not voted in it."""
        if term <= self.term:
            raise InternalError(f"term {term} does not follow {self.term}")
        self.term = term
        self.voted_for = None
        self.mark_dirty()
        self.become_follower(leader)
        # Even the same leader, elected again, may have had its log changed in between.
        self._forget_agreement()

    def become_follower(self, leader: Replica | None) -> None:
        """Follows ``leader``, or nobody known."""
        was = self.standing
        if leader != self.leader or was is not Standing.FOLLOWER:
            self._forget_agreement()
            self._status_due = True
        if leader is None and (self.leader is not None or was is Standing.LEADER):
            self.leaderless_since = self.now
        if was is Standing.LEADER:
            self.included = self.now
        self.standing = Standing.FOLLOWER
        self.leader = leader
        self.votes = {}
        self.progress = {}
        self.heartbeat_due = float("inf")
        self.reset_election_timer()

    def _forget_agreement(self) -> None:
        """Nothing is known any more of how far our log agrees with a leader's."""
        self.matched = self.acknowledged = 0
        self.leader_round = self.answered_round = 0
        self.online = False

    def lose_quorum(self, detail: str) -> None:
        """Tells people, once, that no majority can be reached."""
        if not self.quorum_lost:
            self.quorum_lost = True
            self.report(Notice.QUORUM_LOST, detail)

    def regain_quorum(self) -> None:
        """Tells them that there is a leader again."""
        if self.quorum_lost:
            self.quorum_lost = False
            self.report(Notice.QUORUM_RESTORED)

    def reset_election_timer(self) -> None:
        """Waits a full, freshly drawn timeout from now on."""
        p = self.parameters
        jitter = p.election_timeout_jitter * self.rng.random()
        self.election_due = self.now + (p.election_timeout + jitter) * p.reluctance

    def append(self, kind: EntryKind, payloads: list[bytes]) -> int:
        """Seals and appends entries in the current term; returns the first index.

        Raises:
            CodecError: a payload is too long; nothing was appended.
        """
        time_ms = max(self.wall_ms, self.log.last_time_ms)
        index, checksum, term = self.log.last.index, self.log.last.checksum, self.term
        entries: list[Entry[Any]] = []
        for payload in payloads:
            index += 1
            entry = seal(kind, index, term, time_ms, payload, checksum)
            checksum = entry.checksum
            entries.append(entry)
        first = self.log.last.index + 1
        self.extend(entries)
        return first

    def extend(self, entries: list[Entry[Any]]) -> None:
        """Appends sealed entries; what they imply takes effect at once."""
        self.log.append(entries)
        stable = self.log.stable
        for entry in entries:
            if entry.kind is not EntryKind.NOOP and self.marks.note(entry, stable):
                self.mark_dirty()
                if entry.kind is EntryKind.CONFIG:
                    self._reconfigured()
                elif entry.kind is EntryKind.FOUNDED:
                    self.announce()
        self.broadcast_due = True

    def _reconfigured(self) -> None:
        members = {member.replica for member in self.configuration.members}
        self.floors = {r: seen for r, seen in self.floors.items() if r in members}
        self.report(Notice.CONFIGURATION, str(self.configuration))

    def truncate(self, at: int, before: Anchor) -> None:
        """Removes uncommitted entries from ``at`` on, and whatever they implied."""
        if at <= self.commit:
            raise InternalError(f"truncating at {at} would undo the commit of {self.commit}")
        self.log.truncate(at, before)
        self.matched = min(self.matched, at - 1)
        self.marks.truncate(at)
        self.mark_dirty()
        if self.suspect:
            # The damaged entries followed one that a leader does not have: they were not committed.
            self.trust("the tail was of a history that no leader kept")

    def trust(self, why: str) -> None:
        """The damaged tail is not missed any more."""
        self.suspect = 0
        self.report(Notice.SUSPECT_TAIL, f"{why}; this replica counts again")

    # -- the end of a step --------------------------------------------------------------------------

    def persisted(self, sequence: int) -> None:
        """The write in flight is durable."""
        self.outbox.complete(sequence, self._context(), self.effects.send)
        self.log.settle()

    def finish(self) -> Effects:
        """Turns what changed into a write, and hands the step's effects out."""
        if self._status_due:
            self._status_due = False
            status = status_of(self)
            for peer in self.neighbours:
                self.send_peer(peer, status)
        if not self.outbox.busy and (self._dirty or self.log.has_pending):
            self._write()
        effects, self.effects = self.effects, Effects()
        return effects

    def _write(self) -> None:
        reset_to, truncate_from, entries = self.log.take(self.parameters.write_bytes)
        hard_state: HardState | None = None
        floors_due = self._floors_dirty and self.now >= self._floors_due
        if self._dirty or floors_due:
            # A write that cannot carry all entries must not speak of those it leaves behind: the rest
            # of the hard state then goes with them, in the next.
            written = self.log.handed
            hard_state = self._hard_state(written)
            self._dirty = written < self.marks.newest
            self._floors_dirty = False
            self._floors_due = self.now + self.parameters.heartbeat_interval
        batch: WriteBatch[Any] = WriteBatch(
            hard_state=hard_state, reset_to=reset_to, truncate_from=truncate_from, entries=entries
        )
        self.effects.write = Write(self.outbox.begin(), batch)

    def _hard_state(self, written: int) -> HardState:
        def reached(index: int) -> int:
            return index if index <= written else 0

        marks = self.marks
        return HardState(
            term=self.term,
            voted_for=self.voted_for,
            store=self.me.store,
            life=self.me.life,
            history=self.history,
            attempt=self.attempt,
            configs=marks.durable_configs(written),
            founded=reached(marks.founded),
            first_command=reached(marks.first_command),
            dissolve=reached(marks.dissolve),
            dissolved=tuple(self.dissolved.items()),
            quarantine=self.quarantine,
            floors=tuple(sorted(self.floors.items())),
        )
