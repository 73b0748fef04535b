"""The follower's work: accept what the leader sends, say what is durable, follow its commits (§3.5).

Theory of operation
-------------------
A message joins our log at the entry before its own. If we hold that very entry (index, term and chain
value), what follows is appended; an entry of ours that differs is removed with all after it, and
nothing is removed that does not differ. Otherwise the answer is a refusal that says where our log ends
or where the disagreeing term begins.

``matched`` is how far our log is known to agree with this leader's. An acknowledgement names
``min(matched, stable)``: never more than the disk holds. It is given once a round, and whenever more
became durable.
"""

from __future__ import annotations

from typing import Any

from mosaik.consensus.core import Core, Standing
from mosaik.consensus.effects import Notice
from mosaik.consensus.messages import AppendEntries, AppendReply
from mosaik.primitives.cursor import Cursor
from mosaik.primitives.durable import Anchor
from mosaik.primitives.entry import Damage, Entry, split_sealed
from mosaik.primitives.membership import Replica

__all__ = ["acknowledge", "accept_entries", "on_append_entries"]


def on_append_entries(core: Core, sender: Replica, message: AppendEntries) -> None:
    """Handles entries or a heartbeat from a leader."""
    if message.term < core.term:
        core.send(sender, AppendReply(core.term, False, 0, message.round, core.log.last_cursor))
        return
    try:
        entries = split_sealed(message.entries, first=message.previous.index + 1)
    except Damage as damage:
        core.report(Notice.BUG, f"{sender} sent a damaged entry: {damage}")
        return
    if message.term > core.term:
        core.adopt_term(message.term, sender)
    elif core.is_leader:
        core.report(Notice.BUG, f"{sender} leads term {message.term} too")
        return
    elif core.leader != sender or core.standing is not Standing.FOLLOWER:
        core.become_follower(sender)
    _hear(core, message)
    if not _joins(core, message.previous):
        core.online = False
        _refuse(core, sender, message)
        return
    if entries and not accept_entries(core, message.previous, entries):
        core.report(Notice.BUG, f"{sender} would replace committed entries")
        return
    agreed = message.previous.index + len(entries)
    _follow(core, message, agreed)
    if _is_news(core, message.round, agreed if entries else 0):
        _say(core, sender, message.round)


def _is_news(core: Core, round_: int, repeated: int) -> bool:
    """Whether a leader learns something from an answer now.

    It does when a round begins, when more is durable than it was told, and when what it sent was durable
    already (a leader that compares logs waits for that). Entries that are still to be written are
    acknowledged when they are durable, and an answer before that would only cost.
    """
    durable = min(core.matched, core.log.stable)
    return (
        round_ > core.answered_round
        or durable > core.acknowledged
        or 0 < repeated <= core.log.stable
    )


def _hear(core: Core, message: AppendEntries) -> None:
    core.leader_heard = core.included = core.now
    core.lost = False  # whoever was elected has a majority, so it cannot be gone
    core.hurry_until = float("-inf")
    core.heard_append = True
    core.regain_quorum()
    core.leader_round = max(core.leader_round, message.round)
    core.reset_election_timer()
    for replica, seen in message.floors:
        if replica != core.me:
            core.raise_floor(replica, seen)


def _joins(core: Core, previous: Anchor) -> bool:
    """Whether our log holds the very entry that the message continues."""
    if previous.index < core.log.anchor.index:
        return False
    if previous.index <= core.commit and previous.index <= core.log.last_index:
        return core.log.term_at(previous.index) == previous.term
    if core.log.term_at(previous.index) != previous.term:
        return False
    checksum = core.log.checksum_at(previous.index)
    return checksum is None or checksum == previous.checksum


def _refuse(core: Core, sender: Replica, message: AppendEntries) -> None:
    """Tells the leader where to look: our end, or the last entry before the disagreeing term."""
    index = message.previous.index
    if index > core.log.last_index:
        hint = core.log.last_cursor
    elif index < core.log.anchor.index:
        hint = Cursor(core.log.term_at(core.commit) or 0, core.commit)
    else:
        before = max(core.log.first_of_term_at(index) - 1, core.commit, core.log.anchor.index)
        before = min(before, index - 1)
        hint = Cursor(core.log.term_at(before) or 0, before)
    core.send(sender, AppendReply(core.term, False, 0, message.round, hint))


def accept_entries(core: Core, previous: Anchor, entries: list[Entry[Any]]) -> bool:
    """Appends what is new; removes what differs. False if that would undo a commit."""
    if previous.index == core.log.last_index:
        if entries[0].previous != core.log.last.checksum:
            return False
        core.extend(entries)
        return True
    before = previous
    for at, entry in enumerate(entries):
        if entry.index > core.log.last_index:
            core.extend(entries[at:])
            return True
        if not _holds(core, entry):
            if entry.index <= core.commit:
                return False
            core.truncate(entry.index, before)
            core.extend(entries[at:])
            return True
        before = Anchor(entry.term, entry.index, entry.checksum)
    return True


def _holds(core: Core, entry: Entry[Any]) -> bool:
    if entry.index <= core.log.anchor.index:
        return True
    if core.log.term_at(entry.index) != entry.term:
        return False
    checksum = core.log.checksum_at(entry.index)
    return checksum is None or checksum == entry.checksum


def _follow(core: Core, message: AppendEntries, agreed: int) -> None:
    """Our log agrees with the leader's up to ``agreed``: follow its commits up to there."""
    core.matched = max(core.matched, agreed)
    commit = min(message.commit, core.matched)
    if commit > core.commit:
        core.commit = commit
    if not core.online:
        core.online = True
        core.announce()
    _regain(core)


def _regain(core: Core) -> None:
    """Ends the suspicion once nothing can be missing that this replica once acknowledged.

    Whatever it acknowledged in earlier terms and was committed lies below the first entry of this one
    (Leader Completeness), so a log that agrees with the leader's up to such an entry lacks none of it.
    What it acknowledged in this very term, before the damage, may be counted by this leader still: then
    the log has to reach as far as it once did.
    """
    if not core.suspect:
        return
    agreed = min(core.matched, core.log.stable)
    if core.term > core.suspect_term:
        complete = core.log.term_at(agreed) == core.term
    else:
        complete = agreed >= core.suspect
    if complete:
        core.trust("the leader supplied the tail")


def acknowledge(core: Core) -> None:
    """Entries became durable: tells the leader, if that is news to it."""
    if core.leader is None or core.is_leader or core.leader_round == 0:
        return
    _regain(core)
    if min(core.matched, core.log.stable) > core.acknowledged:
        _say(core, core.leader, core.leader_round)


def _say(core: Core, leader: Replica, round_: int) -> None:
    match = min(core.matched, core.log.stable)
    core.acknowledged = max(core.acknowledged, match)
    core.answered_round = max(core.answered_round, round_)
    core.send(leader, AppendReply(core.term, True, match, round_, counted=not core.suspect))
