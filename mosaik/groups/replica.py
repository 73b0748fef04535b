"""Runs consensus: collects what happened, steps once, and carries out what the step asks for.

Theory of operation
-------------------
Everything that happens to a replica (a frame, a finished write, a call, a timer) becomes an input in
one list. The first of them schedules one *turn* of the event loop's next round; the turn hands all that
gathered until then to one `Consensus.step`. Commands that were given together therefore share one
entry run, one message to each follower and one synced write, and no timer is needed for that.

The step's effects are carried out in the order in which they may become visible: answers first, so
that a flight's index is known before its entries can be applied; then messages (those that must wait
for the write are held back inside the core); then the write; then whatever may be applied.

The core may be taken away (`detach`, after a failed write) and a new one put in its place, rebuilt from
the store. What callers wait for and what was applied stays: outcomes are read off the log, whoever
brings it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from mosaik.consensus import (
    Accepted,
    Bonded,
    Consensus,
    Done,
    Effects,
    Event,
    Fetch,
    Fetched,
    Input,
    Leave,
    Notice,
    Persisted,
    Read,
    ReadReady,
    Received,
    Refused,
    Submit,
    Transfer,
    Unbonded,
    View,
)
from mosaik.consensus.messages import AppendEntries
from mosaik.groups.applier import Applier
from mosaik.groups.attachment import Attachment, Disk
from mosaik.groups.bond import Bond, Bonds, Ending
from mosaik.groups.config import GroupConfig
from mosaik.groups.ingress import Ingress
from mosaik.groups.outcome import Pending
from mosaik.groups.pipeline import Leadership, Pipeline
from mosaik.groups.publisher import Publisher
from mosaik.groups.reads import Reads
from mosaik.groups.watch import State
from mosaik.groups.wire import BondMessage, Forward, ForwardAccepted, ForwardRefused, Raft
from mosaik.machines.machine import StateMachine
from mosaik.primitives.cursor import Index
from mosaik.primitives.digest import PeerId
from mosaik.primitives.entry import Entry
from mosaik.primitives.errors import (
    CorruptEntry,
    GroupTerminated,
    HistoryLost,
    InternalError,
    MosaikError,
    OutcomeUnknown,
    ProtocolViolation,
    StorageError,
)

__all__ = ["Replica"]

log = logging.getLogger("mosaik.groups")

Answer = Accepted | Refused | ReadReady | Done

#: Bytes of entries that are verified in one turn of the event loop: what the largest message carries.
_STEP_BYTES: Final = 64 * 1024


class Replica:
    """One group's replica on this node, as the rest of `mosaik.groups` sees it.

    Args:
        peer: this node.
        config: the group.
        machine: what it replicates.
        bonds: where messages go.
        state: is kept up to date.
        broken: is called when the store fails, with the error.
        fatal: is called when the group cannot go on, with the error.
    """

    def __init__(
        self,
        peer: PeerId,
        config: GroupConfig,
        machine: StateMachine[Any, Any, Any],
        bonds: Bonds,
        state: State,
        *,
        broken: Callable[[StorageError], None],
        fatal: Callable[[MosaikError], None],
    ) -> None:
        self.peer = peer
        self._name = str(config)
        self._bonds = bonds
        self._state = state
        self._publisher = Publisher(self._name, state)
        self._broken = broken
        self._fatal = fatal
        self.applier = Applier(machine, config.group_id, self.landed, fatal)
        self.pipeline = Pipeline(self, config.consensus.forward_timeout)
        self.reads = Reads(machine.query, config.consensus.query_timeout)
        self._loop = asyncio.get_running_loop()
        self._core: Consensus | None = None
        self._log: Attachment | None = None
        self._inbox: list[Input] = []
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        #: When the core has something to do, if nothing happens until then.
        self._core_due = float("inf")
        self._answers: dict[int, Callable[[Answer], None]] = {}
        self._next_token = 1
        self._ingress = Ingress()
        #: Requests whose outcome nobody can tell once the core is gone.
        self._asked: set[Pending[Done | Refused]] = set()
        self.view: View | None = None
        """What consensus showed after the last step; None while there is none."""

    # -- the core comes and goes --------------------------------------------------------------------

    def attach(self, core: Consensus, disk: Disk) -> None:
        """Runs this core over this log from now on."""
        self._core = core
        self._log = Attachment(
            self._name,
            disk,
            self._loop,
            persisted=lambda sequence: self._push(Persisted(sequence)),
            full=self._full,
            broken=self._broken,
        )
        self._inbox = [Bonded(bond.remote) for bond in self._bonds]
        self.view = core.view
        self._core_due = float("-inf")  # its first step says when the next one is due
        self.applier.attach(self)
        self._schedule()

    def detach(self) -> None:
        """Stops leading, voting and acknowledging at once; nothing that is under way counts."""
        if self._log is not None:
            self._log.end()
        self._core = self._log = self.view = None
        self._core_due = float("inf")
        self._inbox = []
        self.applier.detach()
        asked, self._asked = self._asked, set()
        for pending in asked:
            if not pending.done():
                pending.set_exception(
                    OutcomeUnknown("the store failed before the answer came; it may still happen")
                )
        answers, self._answers = self._answers, {}
        for token, answer in answers.items():
            answer(Refused(token, None, "the store failed and is being opened again"))
        self._publisher.hide()
        self._schedule()

    def stop(self, error: Callable[[], GroupTerminated]) -> None:
        """Ends for good; everybody who waits gets the error."""
        self.detach()
        self.applier.stop()
        if self._timer is not None:
            self._timer.cancel()
        self.pipeline.raise_all(error)
        self.reads.raise_all(error)

    # -- what happens -------------------------------------------------------------------------------

    def _push(self, item: Input) -> None:
        self._inbox.append(item)
        if not self._scheduled:
            self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def wake(self) -> None:
        """Something was put into the pipeline or the reads."""
        if not self._scheduled:
            self._schedule()

    def bonded(self, bond: Bond) -> None:
        """A member can be spoken to."""
        self._push(Bonded(bond.remote))

    def unbonded(self, bond: Bond, ending: Ending) -> None:
        """A member cannot be spoken to any more."""
        self.pipeline.unreachable(bond.remote)
        self._push(Unbonded(bond.remote, ending.died))

    def received(self, bond: Bond, message: BondMessage) -> None:
        """A member said something."""
        if isinstance(message, Raft):
            envelope = message.envelope
            if envelope.sender.peer != bond.remote:
                raise ProtocolViolation(f"{bond.remote.short} speaks for {envelope.sender}")
            if self._core is not None:
                self._push(Received(envelope))
        elif isinstance(message, Forward):
            self._ingress.arrived(bond, message)
            self.wake()
        elif isinstance(message, ForwardAccepted):
            self.pipeline.accepted(message.token, message.first, message.term, self.applier.applied)
            self.wake()
        elif isinstance(message, ForwardRefused):
            self.pipeline.refused(message.token, message.reason)
            self.wake()

    def ask(self, request: Callable[[int], Transfer | Leave]) -> Pending[Done | Refused]:
        """Asks the core for something that takes its time."""
        pending: Pending[Done | Refused] = Pending(loop=self._loop)

        def answered(answer: Answer) -> None:
            if not pending.done() and isinstance(answer, Done | Refused):
                pending.set_result(answer)

        if self._core is None:
            pending.set_result(Refused(0, None, "the store is being opened"))
        else:
            self._asked.add(pending)
            pending.add_done_callback(self._asked.discard)
            self._push(request(self._token(answered)))
        return pending

    def _token(self, answered: Callable[[Answer], None]) -> int:
        token = self._next_token
        self._next_token += 1
        self._answers[token] = answered
        return token

    # -- one turn -----------------------------------------------------------------------------------

    def _turn(self) -> None:
        self._scheduled = False
        try:
            self._step()
        except MosaikError as error:
            self._fatal(error)
        except Exception as error:
            # A core, or a driver, that stopped halfway must not go on: nobody knows what it would do.
            log.exception("%s: ended by a bug in mosaik; please report it", self._name)
            bug = InternalError(f"a bug in mosaik: {error!r}")
            bug.__cause__ = error
            self._answers = {}  # some of it may have been sent: nothing is certainly not done
            self._fatal(bug)

    def _step(self) -> None:
        began, now = time.perf_counter(), self._loop.time()
        self.reads.expire(now)
        self._gather(now)
        core, opened = self._core, self._log
        # A turn that only hands commands to another node has nothing to ask consensus.
        if core is not None and opened is not None and (self._inbox or now >= self._core_due):
            inputs = self._take_inbox()
            effects = core.step(inputs, now, time.time_ns() // 1_000_000)
            self._core_due = effects.deadline
            self._carry_out(core, opened, effects, began)
        self._arm(min(self._core_due, self.pipeline.deadline, self.reads.deadline))

    def _take_inbox(self) -> list[Input]:
        """What this turn handles: all that is there, unless it is so much that it would stall."""
        inbox, size = self._inbox, 0
        for count, item in enumerate(inbox):
            if isinstance(item, Received) and isinstance(item.envelope.body, AppendEntries):
                size += len(item.envelope.body.entries)
            if size > _STEP_BYTES and count:
                self._inbox = inbox[count:]
                self._schedule()
                return inbox[:count]
        self._inbox = []
        return inbox

    def _gather(self, now: float) -> None:
        """Turns calls and forwarded commands into inputs."""
        view = self.view
        leading = view.term if view is not None and view.leading else None
        if self._ingress.waiting:
            for bond, forward in self._ingress.admit(leading):
                self._submit_for(bond, forward)
            if self._ingress.waiting:
                self._schedule()
        leadership: Leadership | None = None
        no_room = self._log.no_room if self._log is not None else ""
        if view is not None and view.leader is not None and not no_room:
            leadership = Leadership(view.leader.peer, view.term)
        if self.pipeline.advance(leadership, now, no_room or "no leader is known"):
            self._schedule()
        if self.reads.waiting:
            if self._core is None:
                self.reads.refuse_asked("the store is being opened")
            else:
                token = self._token(self._read_answered)
                self.reads.gather(token, now)
                self._inbox.append(Read(token))

    def _submit_for(self, bond: Bond, forward: Forward) -> None:
        def answered(answer: Answer) -> None:
            if isinstance(answer, Accepted | Refused):
                self._ingress.answer(bond, forward.token, answer)

        self._inbox.append(Submit(self._token(answered), forward.payloads))

    def dispatch(self, leadership: Leadership, token: int, payloads: Sequence[bytes]) -> bool:
        """Hands a flight of this node's own commands to the leader: this node, or another."""
        if leadership.peer != self.peer:
            bond = self._bonds.get(leadership.peer)
            if bond is None or bond.is_terminated:
                return False
            bond.send(Forward(token, leadership.term, tuple(payloads)))
            return True

        def answered(answer: Answer) -> None:
            if isinstance(answer, Accepted):
                self.pipeline.accepted(token, answer.first, answer.term, self.applier.applied)
            elif isinstance(answer, Refused):
                self.pipeline.refused(token, answer.reason)

        self._inbox.append(Submit(self._token(answered), payloads))
        return True

    def _read_answered(self, answer: Answer) -> None:
        if isinstance(answer, ReadReady):
            self.reads.ready(answer.token, answer.index, self.applier.applied)
        elif isinstance(answer, Refused):
            self.reads.refused(answer.token, answer.reason)

    def _arm(self, deadline: float) -> None:
        # A timer that fires early costs one idle step; one that is moved each turn costs every turn.
        if deadline >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self._loop.call_at(deadline, self._due)

    def _due(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        if not self._scheduled:
            self._turn()

    # -- carrying out -------------------------------------------------------------------------------

    def _carry_out(
        self, core: Consensus, opened: Attachment, effects: Effects, began: float
    ) -> None:
        if effects.restart:
            self._restarted(effects.events)
        for event in effects.events:
            self._publisher.heard(event)
        for answer in effects.answers:
            answered = self._answers.pop(answer.token, None)
            if answered is not None:
                answered(answer)
        if effects.send:
            self._send(effects)
        if effects.write is not None:
            # Links flush in the loop's next round. The thread would get the interpreter first, and the
            # others their entries a good deal later.
            self._loop.call_soon(opened.write, effects.write)
        for fetch in effects.fetch:
            self._fetch(opened, fetch)
        view = self.view = core.view
        self._publisher.show(view, writable=not opened.no_room)
        self.applier.advance(view.applicable, began)

    def _send(self, effects: Effects) -> None:
        get = self._bonds.get
        for outgoing in effects.send:
            bond = get(outgoing.peer)
            if bond is not None:
                bond.send(Raft(outgoing.envelope))

    def _restarted(self, events: Sequence[Event]) -> None:
        """This replica's life in a history is over; it is empty again."""
        if any(event.notice is Notice.DISSOLVED for event in events):
            # A history is dissolved only when it never held a command (docs/membership.md).
            self.pipeline.discard("the history was dissolved; it never held a command")
        else:
            self.pipeline.raise_all(lambda: HistoryLost("this node's history ended in flight"))
        self.applier.restart()
        self._state.committed.set(Index(0))

    def landed(self, entries: Sequence[Entry[Any]], results: Sequence[Any]) -> None:
        """The state machine has applied these entries."""
        self.pipeline.landed(entries, results)
        index = entries[-1].index
        self.reads.applied(index)
        self._state.committed.set(Index(index))
        if self.pipeline.queued:
            self.wake()

    # -- the disk -----------------------------------------------------------------------------------

    def _full(self) -> None:
        """The store takes no writes: tells callers, and lets somebody lead who has room.

        Until there is room nothing is applied here either, so callers are told instead of kept waiting.
        """
        self.wake()
        if self.view is not None:
            self._publisher.show(self.view, writable=False)
            if self.view.leading:
                self._push(Transfer(self._token(lambda answer: None)))

    def _fetch(self, opened: Attachment, fetch: Fetch) -> None:
        def found(entries: list[Entry[Any]]) -> None:
            self._push(Fetched(fetch.first, entries))

        opened.read(fetch.first, fetch.last, fetch.limit, found)

    def entries(self, first: int, last: int) -> list[Entry[Any]] | None:
        """Entries from the core's memory, for the applier."""
        return self._core.entries(first, last) if self._core is not None else None

    def fetch(
        self, first: int, last: int, limit: int, done: Callable[[list[Entry[Any]]], None]
    ) -> None:
        """Entries from the store, for the applier."""

        def found(entries: list[Entry[Any]]) -> None:
            if entries:
                done(entries)
            else:
                self._broken(CorruptEntry(first, "it was committed and is not in the store"))

        if self._log is not None:
            self._log.read(first, last, limit, found)
