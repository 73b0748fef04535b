"""Raft's safety, checked where it can first be seen to break (thesis figure 3.2 and §3.6, §4, §6.4).

Each function is one rule. The ledger tells what everybody did; a rule that is broken raises.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mosaik.consensus.messages import AppendReply, Envelope, Vote, VoteReply, VoteRequest
from mosaik.primitives.durable import HardState, WriteBatch
from mosaik.primitives.entry import Entry, EntryKind
from mosaik.primitives.membership import Configuration, Replica
from mosaik.testing.simulation.rules.ledger import HistoryLedger, Leadership, Ledger
from mosaik.testing.simulation.rules.violation import Property
from mosaik.testing.simulation.rules.watched import Watched

__all__ = [
    "acknowledgement_is_durable",
    "commit_quorum",
    "commit_rule",
    "committed_entries_stay",
    "election_quorum",
    "founded_first",
    "fenced",
    "later_leaders_are_complete",
    "leader_append_only",
    "leader_is_complete",
    "log_matching",
    "one_change",
    "on_vote_reply",
    "on_vote_request",
    "one_vote",
    "state_machine_safety",
    "vote_is_durable",
    "written_vote",
]


# -- elections --------------------------------------------------------------------------------------


def one_vote(
    ledger: Ledger, history: HistoryLedger, term: int, voter: Replica, candidate: Replica
) -> None:
    """A replica votes for one candidate in a term, on disk and in words."""
    first = history.votes.setdefault(term, {}).setdefault(voter, candidate)
    ledger.require(
        first == candidate,
        Property.ONE_VOTE,
        f"{voter} votes for {candidate} and for {first} in term {term} of {history.name}",
    )


def vote_is_durable(ledger: Ledger, node: Watched, envelope: Envelope, candidate: Replica) -> None:
    """A vote is on disk before it is spoken; a candidate's own included."""
    hard = node.store.hard_state
    body = envelope.body
    assert isinstance(body, VoteRequest | VoteReply)
    ledger.require(
        (hard.history, hard.term, hard.voted_for) == (envelope.history, body.term, candidate),
        Property.DURABLE_VOTE,
        f"{node.name} votes for {candidate} in term {body.term}; its disk says term {hard.term}, "
        f"{hard.voted_for}",
    )


def on_vote_reply(ledger: Ledger, node: Watched, envelope: Envelope, peer: bytes) -> None:
    """Rules for a vote that is spoken."""
    body = envelope.body
    assert isinstance(body, VoteReply)
    if body.pre or body.vote is not Vote.GRANTED:
        return
    candidate = Replica(peer, envelope.target.store, envelope.target.life)
    vote_is_durable(ledger, node, envelope, candidate)
    one_vote(ledger, ledger.history(envelope.history), body.term, envelope.sender, candidate)


def on_vote_request(ledger: Ledger, node: Watched, envelope: Envelope, _: bytes) -> None:
    """Rules for a candidacy: it is a vote for oneself."""
    body = envelope.body
    assert isinstance(body, VoteRequest)
    if not body.pre:
        vote_is_durable(ledger, node, envelope, envelope.sender)
        one_vote(
            ledger, ledger.history(envelope.history), body.term, envelope.sender, envelope.sender
        )


def election_quorum(
    ledger: Ledger, history: HistoryLedger, node: Watched, term: int, configuration: Configuration
) -> None:
    """A leader has the votes of a majority of its own log's configuration."""
    me = node.replica
    votes = history.votes.get(term, {})
    granted = [voter for voter in configuration.voters if votes.get(voter) == me]
    ledger.require(
        len(granted) > len(configuration.voters) // 2,
        Property.ELECTION_QUORUM,
        f"{node.name} leads term {term} with {len(granted)} of {len(configuration.voters)} votes",
    )


def leader_is_complete(
    ledger: Ledger, history: HistoryLedger, node: Watched, term: int, log: list[tuple[int, int]]
) -> None:
    """A new leader holds everything that was committed in earlier terms."""
    needed = sum(1 for committed_in in history.committed_in if committed_in < term)
    if not needed:
        return
    entry = history.chain[needed - 1]
    ledger.require(
        len(log) >= needed and log[needed - 1][1] == entry.checksum,
        Property.LEADER_COMPLETENESS,
        f"{node.name}, leader of term {term}, lacks the committed {entry}",
    )


def later_leaders_are_complete(
    ledger: Ledger, history: HistoryLedger, term: int, committed: Entry[Any]
) -> None:
    """What is committed now is held by every leader of a later term that is known already."""
    for later, leadership in history.leaders.items():
        if later <= term:
            continue
        held = leadership.elected_with >= committed.index
        same = held and leadership.log[committed.index - 1][1] == committed.checksum
        ledger.require(
            same,
            Property.LEADER_COMPLETENESS,
            f"{committed} is committed in term {term}, and the leader of {later} was elected "
            "without it",
        )


# -- logs -------------------------------------------------------------------------------------------


def log_matching(ledger: Ledger, history: HistoryLedger, entries: Iterable[Entry[Any]]) -> None:
    """Equal index and term mean equal content and, as checksums are chained, equal prefixes."""
    known = history.known
    for entry in entries:
        first = known.setdefault((entry.index, entry.term), entry.checksum)
        if first != entry.checksum:
            ledger.broken(Property.LOG_MATCHING, f"{entry} and one with checksum {first:08x}")


def leader_append_only(ledger: Ledger, node: Watched, leadership: Leadership) -> None:
    """A leader's log only grows."""
    held = len(leadership.log)
    last = node.log.last_index
    if last < held or node.checksum(held) != leadership.log[-1][1]:
        ledger.broken(
            Property.LEADER_APPEND_ONLY,
            f"{node.name} led with {held} entries and now has {last}, or others",
        )


def committed_entries_stay(
    ledger: Ledger, history: HistoryLedger, node: Watched, batch: WriteBatch[Any]
) -> None:
    """No disk drops an entry that is committed."""
    at = batch.truncate_from
    if at is None or at > len(history.chain):
        return
    held = node.store.entry(at)
    ledger.require(
        held is None or held.checksum != history.chain[at - 1].checksum,
        Property.COMMITS_STAY,
        f"{node.name} truncates at {at}; {held} is committed",
    )


def acknowledgement_is_durable(
    ledger: Ledger, node: Watched, envelope: Envelope, peer: bytes
) -> None:
    """What a follower acknowledges is on its disk, and is what the leader of that term has there."""
    body = envelope.body
    assert isinstance(body, AppendReply)
    if not body.success or not body.match:
        return
    history = ledger.history(envelope.history)
    leadership = history.leaders.get(body.term)
    held = node.store.entry(body.match)
    same = (
        leadership is not None
        and leadership.replica.peer == peer
        and held is not None
        and len(leadership.log) >= body.match
        and leadership.log[body.match - 1][1] == held.checksum
    )
    if not same:
        ledger.broken(
            Property.DURABLE_ACK,
            f"{node.name} acknowledges {body.match} to the leader of term {body.term}; "
            f"its disk ends at {node.store.last} and holds {held}",
        )
    acked = history.acked.setdefault(body.term, {})
    acked[envelope.sender] = max(acked.get(envelope.sender, 0), body.match)


# -- commits ----------------------------------------------------------------------------------------


def state_machine_safety(
    ledger: Ledger, history: HistoryLedger, node: Watched, entry: Entry[Any]
) -> None:
    """No two replicas commit different entries at one index."""
    committed = history.chain[entry.index - 1]
    if committed.checksum != entry.checksum:
        ledger.broken(
            Property.STATE_MACHINE_SAFETY,
            f"{node.name} commits {entry}; {committed} is committed there in {history.name}",
        )


def commit_rule(ledger: Ledger, node: Watched, term: int, newest: Entry[Any]) -> None:
    """A leader commits by counting entries of its own term only (thesis §3.6.2)."""
    ledger.require(
        newest.term == term,
        Property.COMMIT_RULE,
        f"{node.name} commits {newest} by counting in term {term}",
    )


def commit_quorum(
    ledger: Ledger,
    history: HistoryLedger,
    node: Watched,
    term: int,
    newest: Entry[Any],
    in_force: tuple[Configuration, ...],
) -> None:
    """What a leader commits is on the disks of a majority of the configuration in force.

    Args:
        in_force: the configurations that were in force during the step in which it was committed.
    """
    acked = history.acked.get(term, {})
    me = node.replica
    own = node.store.entry(newest.index)
    for configuration in in_force:
        voters = configuration.voters
        holding = sum(1 for voter in voters if acked.get(voter, 0) >= newest.index)
        if me in voters and own is not None and own.checksum == newest.checksum:
            holding += 1
        if holding > len(voters) // 2:
            return
    ledger.broken(Property.COMMIT_QUORUM, f"{node.name} commits {newest} without a majority")


def one_change(
    ledger: Ledger,
    history: HistoryLedger,
    node: Watched,
    change: tuple[int, Configuration],
    replaced: tuple[int, Configuration],
) -> None:
    """Configurations change by one replica, each once the one before is committed, and only after a
    commit in the leader's own term (thesis §4.1 with the correction of 2015)."""
    (index, new), (before_index, before) = change, replaced
    core = node.core
    assert core is not None
    commit = core.view.commit
    different = set(new.voters) ^ set(before.voters)
    peers = {m.replica.peer for m in new.members} ^ {m.replica.peer for m in before.members}
    own_term = commit > 0 and history.chain[commit - 1].term == core.view.term
    for condition, detail in (
        (len(different) <= 1, f"{len(different)} voters differ"),
        (len(peers) <= 1, f"{len(peers)} members differ"),
        (before_index <= commit, f"the configuration at {before_index} is not committed"),
        (own_term, "the leader has committed nothing in its own term"),
        (history.founded, "the history is not founded"),
        (history.dissolved_into is None, "the history is dissolved"),
    ):
        ledger.require(condition, Property.ONE_CHANGE, f"{node.name} at {index}: {detail}")


def written_vote(ledger: Ledger, node: Watched, hard: HardState) -> None:
    """A written vote is the only one of its term."""
    if hard.voted_for is not None and hard.history:
        one_vote(ledger, ledger.history(hard.history), hard.term, node.replica, hard.voted_for)


# -- what may follow what ---------------------------------------------------------------------------


def founded_first(
    ledger: Ledger, node: Watched, commit: int, leadership: Leadership, entry: Entry[Any]
) -> None:
    """A leader takes commands and changes once ``FOUNDED`` is committed; an attempt may still die."""
    if entry.index == 1 or entry.kind not in (EntryKind.COMMAND, EntryKind.CONFIG):
        return
    ledger.require(
        0 < leadership.founded <= commit,
        Property.FOUNDED_FIRST,
        f"{node.name} appends {entry}; FOUNDED is at {leadership.founded}, its commit at {commit}",
    )


def fenced(ledger: Ledger, node: Watched, leadership: Leadership, entry: Entry[Any]) -> None:
    """Only no-ops may follow ``DISSOLVE``: a command there would be lost."""
    ledger.require(
        entry.kind is EntryKind.NOOP or not leadership.dissolve,
        Property.FENCED,
        f"{node.name} appends {entry} after the DISSOLVE at {leadership.dissolve}",
    )
