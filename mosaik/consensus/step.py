"""The one door of consensus: inputs and the time go in, effects come out.

Theory of operation
-------------------
`Consensus.step` handles each input in order, then lets the timers run, then does once what the inputs
together made necessary: commit, read rounds, sending, one write. A driver therefore collects what
arrived in one turn of its loop and steps once.

A message passes these checks before anybody looks at what it says:

1. a quarantined store answers with its status only;
2. a message for another store or life of this peer is answered with our status;
3. a Raft message of another history is answered with our status, and **its term is not read**: terms
   of different histories are not comparable. If that history was dissolved, the answer says so;
4. a status below what its sender once acknowledged is answered with ``RolledBack``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Final, assert_never

from mosaik.consensus import (
    changes,
    election,
    floors,
    following,
    genesis,
    histories,
    joining,
    leaving,
    lost,
    messages,
    reads,
    replication,
)
from mosaik.consensus.core import Core
from mosaik.consensus.effects import Accepted, Effects, Notice, Refused, View
from mosaik.consensus.inputs import (
    Bonded,
    Fetched,
    Input,
    Leave,
    Persisted,
    Read,
    Received,
    Recovered,
    Submit,
    Transfer,
    Unbonded,
)
from mosaik.consensus.messages import DissolvedNotice, Envelope, Status, Target
from mosaik.consensus.neighbour import Neighbour
from mosaik.consensus.parameters import Parameters
from mosaik.consensus.status import status_of
from mosaik.primitives.entry import Entry, EntryKind
from mosaik.primitives.errors import CodecError
from mosaik.primitives.membership import Replica

__all__ = ["Consensus"]

#: Messages that speak within one history.
RAFT: Final = (
    messages.VoteRequest,
    messages.VoteReply,
    messages.AppendEntries,
    messages.AppendReply,
    messages.InstallSnapshot,
    messages.SnapshotReply,
    messages.TimeoutNow,
    messages.ReadIndex,
    messages.ReadIndexReply,
    messages.JoinRequest,
    messages.LeaveRequest,
)

#: Who handles what. Looked up by the exact type, so that each message costs one dictionary access.
_HANDLERS: Final[dict[type, Callable[[Core, Replica, Any], None]]] = {
    messages.Propose: genesis.on_propose,
    messages.ProposeReply: genesis.on_propose_reply,
    messages.VoteRequest: election.on_vote_request,
    messages.VoteReply: election.on_vote_reply,
    messages.AppendEntries: following.on_append_entries,
    messages.AppendReply: replication.on_append_reply,
    messages.TimeoutNow: election.on_timeout_now,
    messages.ReadIndex: reads.on_read_index,
    messages.ReadIndexReply: reads.on_read_index_reply,
    messages.HistoryInfo: histories.on_history_info,
    messages.JoinRequest: changes.on_join_request,
    messages.JoinReply: joining.on_join_reply,
    messages.LeaveRequest: changes.on_leave_request,
    messages.LeaveReply: leaving.on_leave_reply,
    messages.RolledBack: floors.on_rolled_back,
    messages.DissolvedNotice: histories.on_dissolved,
}


class Consensus:
    """One replica of one group, as a function of its inputs.

    Args:
        parameters: the numbers it runs by.
        recovered: what its store holds.
        rng: the only source of chance.
        now: a monotonic time in seconds; later calls never pass a lower one.
    """

    def __init__(
        self, parameters: Parameters, recovered: Recovered, rng: random.Random, now: float
    ) -> None:
        self._core = core = Core(parameters, recovered, rng, now)
        if core.suspect:
            self._face_damage(recovered)
        if core.configuration.voters == (core.me,):
            # Alone, there is nobody to wait for.
            core.election_due = core.now

    def _face_damage(self, recovered: Recovered) -> None:
        core = self._core
        damaged = f"entries {core.log.last_index + 1} to {core.suspect} are damaged"
        known = all(index <= core.log.last_index for index in recovered.hard_state.configs)
        if known and [member.replica for member in core.configuration.members] == [core.me]:
            # No damaged entry admitted anybody, and nobody else ever saw one acknowledged.
            core.report(
                Notice.SUSPECT_TAIL, f"{damaged} and were cut: this replica is the only member"
            )
            core.suspect = 0
            core.log.discard_damaged()
            return
        core.report(
            Notice.SUSPECT_TAIL,
            f"{damaged}: this replica neither leads nor counts until a leader supplies them",
        )

    @property
    def view(self) -> View:
        """What the replica shows of itself now."""
        core = self._core
        return View(
            term=core.term,
            leader=core.leader,
            leading=core.is_leader,
            commit=core.commit,
            applicable=min(core.commit, core.log.stable),
            last=core.log.last.index,
            last_term=core.log.last.term,
            history=core.history,
            founded=0 < core.marks.founded <= core.commit,
            online=core.is_leader or (core.online and core.leader is not None),
            configuration=core.configuration,
            role=core.standing.value,
            lost=core.lost,
            quarantined=core.quarantine,
        )

    @property
    def replica(self) -> Replica:
        """Who this replica is in its present life."""
        return self._core.me

    def entries(self, first: int, last: int) -> list[Entry[Any]] | None:
        """Entries from memory; None when some of them have left it and must be read from the store."""
        return self._core.log.entries(first, last)

    def step(self, inputs: Sequence[Input], now: float, wall_ms: int) -> Effects:
        """Handles what happened and says what to do about it.

        Args:
            inputs: what happened since the last step, in order.
            now: the monotonic time, seconds.
            wall_ms: the wall clock, milliseconds since 1970; stamped on entries, never compared.

        Raises:
            InternalError: an invariant is broken; the replica must not be stepped again.
        """
        core = self._core
        core.now = now
        core.wall_ms = wall_ms
        for item in inputs:
            _handle(core, item)
        _run_timers(core)
        _conclude(core)
        effects = core.finish()
        effects.deadline = _deadline(core)
        return effects


def _handle(core: Core, item: Input) -> None:
    match item:
        case Received():
            _receive(core, item.envelope)
        case Submit():
            _submit(core, item)
        case Persisted():
            core.persisted(item.sequence)
            following.acknowledge(core)
        case Fetched():
            if core.dissolve_fetch and item.first == core.dissolve_fetch:
                _dissolve_fetched(core, item)
            replication.on_fetched(core, item)
        case Bonded():
            core.neighbours[item.peer] = Neighbour()
            core.send_peer(item.peer, status_of(core))
            _greet(core, item.peer)
        case Unbonded():
            core.neighbours.pop(item.peer, None)
            if item.died and core.leader is not None and core.leader.peer == item.peer:
                election.leader_died(core)
        case Read():
            reads.on_read(core, item.token)
        case Transfer():
            leaving.on_transfer(core, item)
        case Leave():
            leaving.on_leave(core, item)
        case _:
            assert_never(item)


def _greet(core: Core, peer: bytes) -> None:
    """A member that can be spoken to again is probed anew: what was under way is gone."""
    for replica, progress in core.progress.items():
        if replica.peer == peer:
            progress.probe(max(progress.match, core.log.anchor.index) + 1)
            progress.fetching = 0
            core.broadcast_due = True


def _receive(core: Core, envelope: Envelope) -> None:
    sender, body = envelope.sender, envelope.body
    if sender.peer not in core.neighbours or sender.peer == core.me.peer:
        return
    if isinstance(body, Status):
        _on_status(core, envelope, body)
        return
    if core.quarantine:
        # The status itself is what a peer objects to: answering that too would go on for ever.
        if not isinstance(body, messages.RolledBack):
            core.send_peer(sender.peer, status_of(core))
        return
    if envelope.target.store and envelope.target != Target(core.me.store, core.me.life):
        if isinstance(body, messages.Propose):
            # It cites an earlier life of this store: that is answered with a proof.
            genesis.on_propose(core, sender, body)
        else:
            core.send_peer(sender.peer, status_of(core))
        return
    if isinstance(body, RAFT) and envelope.history != core.history:
        into = core.dissolved.get(envelope.history)
        if into is not None:
            core.send_peer(sender.peer, DissolvedNotice(envelope.history, into))
        core.send_peer(sender.peer, status_of(core))
        return
    handler = _HANDLERS.get(type(body))
    if handler is not None:
        handler(core, sender, body)


def _on_status(core: Core, envelope: Envelope, status: Status) -> None:
    neighbour = core.neighbours[envelope.sender.peer]
    known = neighbour.replica
    neighbour.status = status
    neighbour.replica = envelope.sender
    neighbour.history = envelope.history
    neighbour.echo = status.echo or neighbour.echo
    if status.asks:
        core.send_peer(envelope.sender.peer, status_of(core, echo=status.asks))
    floors.check(core, envelope.sender, status, envelope.history)
    into = core.dissolved.get(envelope.history)
    if into is not None:
        core.send_peer(envelope.sender.peer, DissolvedNotice(envelope.history, into))
    for history, onward in status.dissolved:
        if history == core.history:
            histories.end(core, onward)
    if core.attempt is not None and not core.founded and known != envelope.sender:
        genesis.propose_to_all(core)
    lost.consider(core)


def _submit(core: Core, submit: Submit) -> None:
    if not core.is_leader:
        core.answer(Refused(submit.token, core.leader, "this replica does not lead"))
    elif core.fenced:
        core.answer(Refused(submit.token, None, "the history is being dissolved"))
    elif not core.established:
        # A moment at most, or the attempt fails and with it everything that waits here.
        core.submitted_early.append(submit)
    elif core.transfer_target is not None:
        core.answer(Refused(submit.token, None, "leadership is being handed over"))
    else:
        try:
            first = core.append(EntryKind.COMMAND, list(submit.payloads))
        except CodecError as error:
            core.answer(Refused(submit.token, core.leader, str(error)))
            return
        core.answer(Accepted(submit.token, first, core.term, len(submit.payloads)))


def _resubmit(core: Core) -> None:
    """The history is founded, or leadership is lost: what was submitted early gets its answer."""
    waiting, core.submitted_early = core.submitted_early, []
    for submit in waiting:
        _submit(core, submit)


def _dissolve_fetched(core: Core, fetched: Fetched) -> None:
    core.dissolve_fetch = 0
    for entry in fetched.entries:
        committed = entry.index == core.marks.dissolve <= core.commit
        if committed and entry.kind is EntryKind.DISSOLVE:
            histories.end(core, entry.payload)


def _run_timers(core: Core) -> None:
    if core.quarantine:
        core.election_due = float("inf")
        return
    genesis.tick(core)
    joining.tick(core)
    election.arm(core)
    election.tick(core)
    replication.heartbeat(core)
    leaving.tick(core)


def _conclude(core: Core) -> None:
    """What the inputs of one step made necessary together."""
    if core.is_leader:
        replication.advance_commit(core)
        if core.established or core.fenced:
            _resubmit(core)
        reads.start(core)
        if core.broadcast_due:
            replication.broadcast(core)
    else:
        core.broadcast_due = False
        _resubmit(core)
        reads.fail_all(core, "leadership was lost before the read could be confirmed")
        leaving.hand_over(core)
    reads.fail_remote(core, "the leader changed before the read was answered")
    histories.apply_dissolve(core)


def _deadline(core: Core) -> float:
    """When something may be due without any input."""
    p = core.parameters
    due = min(core.election_due, core.heartbeat_due, core.transfer_deadline)
    waiting = (
        core.leave_token is not None
        or bool(core.remote_removals)
        or core.pristine
        or not core.founded
        or core.configuration.find(core.me) is None
    )
    if waiting:
        due = min(due, core.now + p.heartbeat_interval / 2)
    elif not core.is_leader:
        # Somebody removed while away is spoken to by nobody: it has to wake up by itself to notice.
        silent = core.included + p.genesis_timeout
        due = min(due, silent if silent > core.now else core.now + p.heartbeat_interval / 2)
    if core.pristine:
        if core.quiet_until > core.now:
            due = min(due, core.quiet_until)
        if core.eligible_since is not None:
            rank_step = max(p.election_timeout, 1e-3)
            passed = max(0.0, core.now - core.eligible_since)
            due = min(due, core.eligible_since + (passed // rank_step + 1) * rank_step)
    return max(due, core.now + 1e-4) if due <= core.now else due
