"""Looks at a node after each of its steps and writes, and asks the rules that this concerns.

Only what changed is looked at: a rule that would read whole logs after every step would leave no time
for seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from mosaik.consensus import Effects, Notice, View
from mosaik.consensus.messages import (
    AppendReply,
    Envelope,
    Propose,
    ProposeReply,
    VoteReply,
    VoteRequest,
)
from mosaik.primitives.durable import WriteBatch
from mosaik.primitives.entry import Entry, EntryKind
from mosaik.primitives.membership import Configuration, configuration_codec
from mosaik.testing.simulation.rules import membership, properties
from mosaik.testing.simulation.rules.ledger import HistoryLedger, Leadership, Ledger
from mosaik.testing.simulation.rules.violation import Property
from mosaik.testing.simulation.rules.watched import Watched

__all__ = ["after_step", "before_write", "after_write"]

_SPOKEN: Final[dict[type, Callable[[Ledger, Watched, Envelope, bytes], None]]] = {
    VoteReply: properties.on_vote_reply,
    VoteRequest: properties.on_vote_request,
    AppendReply: properties.acknowledgement_is_durable,
    Propose: membership.on_propose,
    ProposeReply: membership.on_propose_reply,
}


def before_write(ledger: Ledger, node: Watched, batch: WriteBatch[Any]) -> None:
    """A batch is about to become durable."""
    if batch.truncate_from is not None and batch.reset_to is None:
        history = ledger.history(node.store.hard_state.history)
        properties.committed_entries_stay(ledger, history, node, batch)
        if batch.truncate_from <= node.store.last:
            ledger.counts["truncations"] += 1


def after_write(ledger: Ledger, node: Watched, batch: WriteBatch[Any]) -> None:
    """A batch became durable."""
    hard = node.store.hard_state
    if batch.hard_state is not None:
        membership.written(ledger, node, hard)
        properties.written_vote(ledger, node, hard)
    if batch.entries:
        properties.log_matching(ledger, ledger.history(hard.history), batch.entries)


def after_step(ledger: Ledger, node: Watched, effects: Effects, before: View) -> View:
    """A core was stepped.

    Args:
        before: what it showed before the step.
    """
    core = node.core
    assert core is not None
    view = core.view
    if effects.restart and before.leading:
        _committed_and_gone(ledger, node, before)
    if view.history != node.history or effects.restart:
        node.history, node.commit = view.history, 0
    leadership = _leadership(ledger, node, view) if view.leading else None
    if view.commit > node.commit:
        in_force = (before.configuration, view.configuration)
        _commit(ledger, node, view, node.entries(node.commit + 1, view.commit), in_force)
    if leadership is not None and view.last > len(leadership.log):
        _grow(ledger, node, leadership)
    for outgoing in effects.send:
        envelope = outgoing.envelope
        membership.identity_is_durable(ledger, node, envelope)
        spoken = _SPOKEN.get(type(envelope.body))
        if spoken is not None:
            spoken(ledger, node, envelope, outgoing.peer)
    for event in effects.events:
        ledger.require(
            event.notice is not Notice.BUG,
            Property.NO_BUG_REPORTED,
            f"{node.name} reports: {event.detail}",
        )
    return view


def _leadership(ledger: Ledger, node: Watched, view: View) -> Leadership | None:
    """It leads, in its own eyes. It counts as a leader once that is durable: until then it says
    nothing, and a crash undoes it."""
    hard = node.store.hard_state
    if (hard.history, hard.term, hard.voted_for) != (view.history, view.term, node.replica):
        return None
    history = ledger.history(view.history)
    known = history.leaders.get(view.term)
    if known is None:
        return _take_office(ledger, history, node, view)
    ledger.require(
        (known.replica, known.incarnation) == (node.replica, node.incarnation),
        Property.ELECTION_SAFETY,
        f"{node.name} and {known.replica} lead term {view.term} of {history.name}",
    )
    if known.replica != node.replica:
        return None
    properties.leader_append_only(ledger, node, known)
    return known


def _take_office(ledger: Ledger, history: HistoryLedger, node: Watched, view: View) -> Leadership:
    log = [(entry.term, entry.checksum) for entry in node.entries(1, view.last)]
    inherited = sum(1 for term, _ in log if term < view.term) if view.term > 1 else 1
    leadership = Leadership(node.replica, node.incarnation, log[:inherited], inherited)
    for entry in node.entries(1, inherited):
        leadership.note(entry)
    history.leaders[view.term] = leadership
    ledger.counts["elections"] += 1
    properties.leader_is_complete(ledger, history, node, view.term, leadership.log)
    electors = _configuration_at(node, inherited)[1]
    properties.election_quorum(ledger, history, node, view.term, electors)
    return leadership


def _configuration_at(node: Watched, index: int) -> tuple[int, Configuration]:
    """The newest configuration up to an index of a node's log."""
    for entry in reversed(node.entries(1, index)):
        if entry.kind is EntryKind.CONFIG:
            return entry.index, configuration_codec.decode(entry.payload)
    return 0, Configuration()


def _grow(ledger: Ledger, node: Watched, leadership: Leadership) -> None:
    """A leader's log has new entries."""
    history = ledger.history(node.history)
    entries = node.entries(len(leadership.log) + 1, node.log.last_index)
    properties.log_matching(ledger, history, entries)
    # A step that commits FOUNDED may take what waited for it: the commit of now counts.
    assert node.core is not None
    commit = node.core.view.commit
    for entry in entries:
        leadership.log.append((entry.term, entry.checksum))
        properties.founded_first(ledger, node, commit, leadership, entry)
        properties.fenced(ledger, node, leadership, entry)
        leadership.note(entry)
        if entry.kind is EntryKind.FOUNDED:
            membership.founded_by_all(ledger, history, node)
        elif entry.kind is EntryKind.CONFIG:
            new = configuration_codec.decode(entry.payload)
            properties.one_change(
                ledger, history, node, (entry.index, new), _configuration_at(node, entry.index - 1)
            )


def _commit(
    ledger: Ledger,
    node: Watched,
    view: View,
    entries: Sequence[Entry[Any]],
    in_force: tuple[Configuration, ...],
) -> None:
    """Its commit index rose over these entries."""
    history = ledger.history(view.history)
    new: list[Entry[Any]] = []
    for entry in entries:
        if entry.index <= len(history.chain):
            properties.state_machine_safety(ledger, history, node, entry)
        else:
            new.append(entry)
    node.commit = entries[-1].index
    if not new:
        return
    ledger.require(
        view.leading,
        Property.STATE_MACHINE_SAFETY,
        f"{node.name} commits {new[-1]}, which no leader has committed",
    )
    properties.commit_rule(ledger, node, view.term, new[-1])
    properties.commit_quorum(ledger, history, node, view.term, new[-1], in_force)
    history.chain.extend(new)
    history.committed_in.extend([view.term] * len(new))
    for entry in new:
        membership.entry_committed(ledger, history, entry)
    properties.later_leaders_are_complete(ledger, history, view.term, new[-1])


def _committed_and_gone(ledger: Ledger, node: Watched, before: View) -> None:
    """A leader that commits ``DISSOLVE`` ends its life in the same step; its disk still shows what it
    held. Without a majority for it, it ended for another reason."""
    voters = before.configuration.voters
    acked = ledger.history(before.history).acked.get(before.term, {})
    held = node.store.range(node.commit + 1, node.store.last)
    while held and held[-1].term == before.term:
        end = held[-1].index
        agreeing = sum(1 for v in voters if v == node.replica or acked.get(v, 0) >= end)
        if agreeing > len(voters) // 2:
            if any(entry.kind is EntryKind.DISSOLVE for entry in held):
                _commit(ledger, node, before, held, (before.configuration,))
            return
        held.pop()
