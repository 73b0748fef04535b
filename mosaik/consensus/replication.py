"""The leader's work: send entries, count acknowledgements, commit (thesis §3.5, §3.6, §6.2).

Theory of operation
-------------------
After each step that changed something, `broadcast` sends every member what it lacks: new entries in
the order of the log, a window of messages ahead of their acknowledgements, and the commit index when
it rose. A message names the entry before its own by term, index *and* checksum. Entries that have left
memory are fetched from the store; until they arrive, that member waits.

An entry is committed once a majority of the voters of the newest configuration *in the log* holds it
and it is of the leader's own term; older ones commit with it and never by counting (thesis §3.6.2).
The leader counts itself only as far as its own disk is.

Every message carries the number of a *round*, which the reply echoes. A round that a majority has
answered proves that no other leader existed when the round began; check-quorum and reads use that.
"""

from __future__ import annotations

from typing import Any

from mosaik.consensus import changes, floors, genesis, histories, reads
from mosaik.consensus.core import Core, Standing
from mosaik.consensus.effects import Fetch
from mosaik.consensus.inputs import Fetched
from mosaik.consensus.messages import AppendEntries, AppendReply
from mosaik.consensus.progress import Progress
from mosaik.consensus.quorum import committed_index, has_majority
from mosaik.primitives.cursor import Cursor
from mosaik.primitives.durable import Anchor
from mosaik.primitives.entry import Entry, EntryKind, join_sealed
from mosaik.primitives.membership import Replica

__all__ = [
    "advance_commit",
    "become_leader",
    "broadcast",
    "heartbeat",
    "holders",
    "on_append_reply",
    "on_fetched",
    "quorum_heard",
    "start_round",
]


def become_leader(core: Core) -> None:
    """Takes office: nothing is known of the others yet, and the term starts with an entry of its own."""
    core.standing = Standing.LEADER
    core.leader = core.me
    core.led_since = core.quorum_confirmed = core.now
    core.election_due = float("inf")
    core.heartbeat_due = core.now + core.parameters.heartbeat_interval
    core.hurry_until = float("-inf")
    core.regain_quorum()
    core.round_times = {}
    core.log_end_before = core.log.last_index + 1
    core.joiners = {}
    core.removing = {}
    core.progress = {}
    refresh_members(core)
    core.announce()
    if core.log.last_index == 1 and not core.founded:
        # A history of one entry is an attempt, and gets Founded or Dissolve instead of a no-op.
        genesis.lead(core)
    else:
        core.append(EntryKind.NOOP, [b""])
    start_round(core)


def refresh_members(core: Core) -> None:
    """Keeps a `Progress` for every other member of the newest configuration, and for nobody else."""
    members = [member.replica for member in core.configuration.members]
    for replica in members:
        if replica != core.me and replica not in core.progress:
            core.progress[replica] = Progress(next=core.log.last_index + 1, heard=core.now)
    for replica in [known for known in core.progress if known not in members]:
        del core.progress[replica]


# -- sending ----------------------------------------------------------------------------------------


def start_round(core: Core) -> int:
    """Begins a round: speaks to every member, and remembers when."""
    core.round += 1
    core.round_times[core.round] = core.now
    for replica, progress in core.progress.items():
        if core.bonded(replica):
            if progress.probing:
                progress.probing = False
            _send_next(core, replica, progress, even_empty=True)
    _confirm(core)
    return core.round


def broadcast(core: Core) -> None:
    """Sends every member the entries it lacks, and the commit index if it rose."""
    core.broadcast_due = False
    for replica, progress in core.progress.items():
        if not core.bonded(replica):
            continue
        while _send_next(core, replica, progress, even_empty=False):
            pass
        if progress.streaming and progress.sent_commit < min(core.commit, progress.next - 1):
            _send_next(core, replica, progress, even_empty=True)


def _send_next(core: Core, replica: Replica, progress: Progress, *, even_empty: bool) -> bool:
    """Sends one message; tells whether it carried entries and more may follow at once."""
    previous = _anchor_before(core, progress)
    if previous is None:
        # The place where the logs join has left memory. A heartbeat still has to go out, so it names
        # our last entry instead: the answer then says where the other log ends.
        _fetch(core, progress)
        if even_empty:
            _send(core, replica, progress, core.log.last, [])
        return False
    entries = _next_entries(core, progress)
    if not entries and not even_empty:
        return False
    _send(core, replica, progress, previous, entries)
    return _sent(progress, entries)


def _next_entries(core: Core, progress: Progress) -> list[Entry[Any]]:
    """What may be sent to a member now; asks the store when it has left memory."""
    busy = progress.probing or progress.fetching
    if busy or len(progress.outstanding) >= core.parameters.window:
        return []
    if progress.next > core.log.last_index:
        return []
    run = core.log.run(progress.next, core.parameters.message_bytes)
    if run is None:
        _fetch(core, progress)
        return []
    return run


def _sent(progress: Progress, entries: list[Entry[Any]]) -> bool:
    """Notes that entries are under way; tells whether more may follow before they are answered."""
    if not entries:
        return False
    if not progress.streaming:
        progress.probing = True
        return False
    progress.next = entries[-1].index + 1
    progress.outstanding.append(entries[-1].index)
    return True


def _send(
    core: Core, replica: Replica, progress: Progress, previous: Anchor, entries: list[Entry[Any]]
) -> None:
    progress.sent_commit = min(core.commit, entries[-1].index if entries else previous.index)
    floors = tuple(sorted(core.floors.items())) if not entries else ()
    core.send(
        replica,
        AppendEntries(
            term=core.term,
            previous=previous,
            entries=join_sealed(entries),
            commit=core.commit,
            round=core.round,
            floors=floors,
        ),
    )


def _anchor_before(core: Core, progress: Progress) -> Anchor | None:
    """The entry before the next one to send, as far as memory knows its checksum."""
    index = progress.next - 1
    if progress.joint is not None and progress.joint.index == index:
        return progress.joint
    term = core.log.term_at(index)
    checksum = core.log.checksum_at(index) if index else 0
    if term is None or checksum is None:
        return None
    return Anchor(term, index, checksum)


def _fetch(core: Core, progress: Progress) -> None:
    """Asks the store for entries that have left memory, or first for the one before them."""
    if progress.fetching:
        return
    first = progress.next
    if _anchor_before(core, progress) is None:
        first -= 1
    progress.fetching = first
    limit = core.parameters.message_bytes
    core.effects.fetch.append(Fetch(first, core.log.stable, limit))


def on_fetched(core: Core, fetched: Fetched) -> None:
    """Sends what the store returned to every member that waited for it."""
    for replica, progress in core.progress.items():
        if progress.fetching != fetched.first:
            continue
        progress.fetching = 0
        core.broadcast_due = True
        run = [entry for entry in fetched.entries if core.log.term_at(entry.index) == entry.term]
        if run and run[0].index == progress.next - 1:
            before = run.pop(0)
            progress.joint = Anchor(before.term, before.index, before.checksum)
        previous = _anchor_before(core, progress)
        if not run or previous is None or run[0].index != progress.next or not core.bonded(replica):
            continue
        _send(core, replica, progress, previous, run)
        if _sent(progress, run):
            end = run[-1]
            progress.joint = Anchor(end.term, end.index, end.checksum)


# -- hearing ----------------------------------------------------------------------------------------


def on_append_reply(core: Core, sender: Replica, reply: AppendReply) -> None:
    """A member answered one of our messages."""
    if reply.term > core.term:
        core.adopt_term(reply.term)
        return
    if reply.term < core.term or not core.is_leader:
        return
    progress = core.progress.get(sender)
    if progress is None:
        return
    if core.doubtful(sender):
        floors.object_to(core, sender)  # again, since either side may have missed the other's word
        return
    progress.heard = core.now
    progress.confirmed = max(progress.confirmed, reply.round)
    if reply.success:
        match = min(reply.match, core.log.last_index)
        if reply.counted:
            core.raise_floor(sender, Cursor(reply.term, reply.match))
        news = progress.acknowledge(match, counted=reply.counted)
        if news or progress.next <= core.log.last_index:
            core.broadcast_due = True
    elif not progress.streaming or reply.hint.index < progress.next - 1:
        progress.match = min(progress.match, reply.hint.index)
        progress.probe(_join_point(core, reply.hint))
        core.broadcast_due = True
    _confirm(core)


def _join_point(core: Core, hint: Cursor) -> int:
    """Where the other log may join ours: after its hint, or after our last entry of no later term.

    Skips a whole term a message instead of an entry a message (thesis §3.5, "the optimization").
    """
    index = min(hint.index, core.log.last_index)
    term = core.log.term_at(index)
    if term is not None and term > hint.term:
        index = min(index, core.log.last_of_terms_up_to(hint.term))
    return max(index, core.log.anchor.index) + 1


def _confirm(core: Core) -> None:
    """Finds the newest round that a majority has answered."""
    voters = core.configuration.voters
    confirmed = {replica: progress.confirmed for replica, progress in core.progress.items()}
    confirmed[core.me] = core.round
    round_ = committed_index(voters, confirmed)
    when = core.round_times.get(round_)
    if when is not None:
        core.quorum_confirmed = max(core.quorum_confirmed, when)
        core.round_times = {n: t for n, t in core.round_times.items() if n >= round_}
    reads.on_round(core, round_)


# -- committing -------------------------------------------------------------------------------------


def holders(core: Core) -> dict[Replica, int]:
    """Up to which index each member durably holds this leader's log."""
    match = {replica: progress.match for replica, progress in core.progress.items()}
    match[core.me] = core.log.stable if core.able else 0
    return match


def advance_commit(core: Core) -> None:
    """Commits what a majority holds, if it is of this term (thesis §3.6.2)."""
    index = committed_index(core.configuration.voters, holders(core))
    if index > core.commit and core.log.term_at(index) == core.term:
        core.commit = index
        core.broadcast_due = True
        reads.on_commit(core)
        changes.on_commit(core)


# -- time -------------------------------------------------------------------------------------------


def quorum_heard(core: Core, *, without: Replica | None = None) -> bool:
    """Check-quorum: whether a majority answered within an election timeout (thesis §6.2).

    Args:
        without: this replica, as if it had been removed.
    """
    since = core.now - core.parameters.election_timeout
    heard = {replica for replica, progress in core.progress.items() if progress.heard >= since}
    voters = [voter for voter in core.configuration.voters if voter != without]
    return has_majority(voters, heard | {core.me})


def heartbeat(core: Core) -> None:
    """What a leader does once a heartbeat interval."""
    if not core.is_leader or core.now < core.heartbeat_due:
        return
    core.heartbeat_due = core.now + core.parameters.heartbeat_interval
    if not quorum_heard(core):
        core.lose_quorum(f"the leader of term {core.term} steps down")
        core.become_follower(None)
        core.leader_heard = float("-inf")
        return
    start_round(core)
    changes.heartbeat(core)
    histories.heartbeat(core)
    core.log_end_before = core.log.last_index
