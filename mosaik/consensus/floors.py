"""Noticing a store that was rolled back behind its replica's back, as far as that can be noticed.

For one replica the pair (term, match) never decreases: terms only rise, and within a term the prefix
that agrees with the leader only grows. (The length of the log is no such measure: a new term may
lawfully shorten it.) Every peer remembers the highest pair it saw, and leaders spread theirs. A replica
that claims less than it once acknowledged is told so; it compares with what it really holds, so that a
message that was merely late accuses nobody, and stops if the claim is true.

This detects, on a best effort; it cannot prevent (see ``docs/membership.md`` for its limits).
"""

from __future__ import annotations

from mosaik.consensus.core import Core
from mosaik.consensus.effects import Notice
from mosaik.consensus.messages import RolledBack, Status
from mosaik.consensus.status import status_of
from mosaik.primitives.cursor import Cursor
from mosaik.primitives.membership import Replica

__all__ = ["below_floor", "check", "object_to", "on_rolled_back"]


def below_floor(core: Core, replica: Replica, term: int, last_index: int) -> bool:
    """Whether a replica that claims this term and log end once showed more."""
    floor = core.floors.get(replica)
    if floor is None:
        return False
    return term < floor.term or (term == floor.term and last_index < floor.index)


def check(core: Core, sender: Replica, status: Status, history: bytes) -> None:
    """Compares what a replica says of itself with what it once acknowledged."""
    neighbour, last_index = core.neighbours[sender.peer], status.last.index
    known = neighbour.doubtful
    neighbour.doubtful = (
        bool(history)
        and history == core.history
        and below_floor(core, sender, status.term, last_index)
    )
    if not neighbour.doubtful:
        return
    if not known:
        core.report(
            Notice.STORE_ROLLED_BACK,
            f"{sender} claims term {status.term}, index {last_index}, and once acknowledged "
            f"{core.floors[sender]}",
        )
    object_to(core, sender)


def object_to(core: Core, replica: Replica) -> None:
    """Tells a doubtful replica what it once showed; it stops, or answers with a newer status."""
    floor, neighbour = core.floors.get(replica), core.neighbours.get(replica.peer)
    if floor is None or neighbour is None or neighbour.status is None:
        return
    status = neighbour.status
    core.send(replica, RolledBack(floor, Cursor(status.term, status.last.index), replica.life))


def on_rolled_back(core: Core, sender: Replica, message: RolledBack) -> None:
    """A peer says that this store lost what it acknowledged: true if it really holds less."""
    holds_less = core.term < message.seen.term or (
        core.term == message.seen.term
        and max(core.log.last_index, core.suspect) < message.seen.index
    )
    if core.quarantine:
        return
    if not holds_less:
        # An old status came late; a new one clears the doubt.
        core.send_peer(sender.peer, status_of(core))
        return
    core.quarantine = True
    core.mark_dirty()
    core.report(
        Notice.QUARANTINED,
        f"{sender} saw this store at {message.seen}, and it is at {Cursor(core.term, core.log.last_index)}"
        "; start over with a new store (`mosaik log reset`)",
    )
    core.become_follower(None)
    core.announce()
