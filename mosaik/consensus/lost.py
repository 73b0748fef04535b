"""A volatile group that lost its majority: what cannot be vouched for any more is not pretended.

A voter with a volatile store whose authenticated peer is here as somebody else is provably gone. When
the voters that are not provably gone no longer make a majority, the history is *lost* for ever: nobody
can know what was acknowledged. A survivor without client entries starts over; one that holds some
blocks and says so, unless it was configured to forget. Durable stores are never provably gone, since
an old disk may return: their lost quorum may come back.
"""

from __future__ import annotations

from mosaik.consensus import lives
from mosaik.consensus.core import Core
from mosaik.consensus.effects import Notice

__all__ = ["consider", "majority_is_gone"]


def majority_is_gone(core: Core) -> bool:
    """Whether the voters that may still return are no majority of the configuration."""
    voters = 0
    remaining = 0
    for member in core.configuration.members:
        if member.replica not in core.configuration.voters:
            continue
        voters += 1
        neighbour = core.neighbours.get(member.replica.peer)
        reborn = neighbour is not None and neighbour.replica not in (None, member.replica)
        if not (member.volatile and reborn):
            remaining += 1
    return voters > 0 and remaining <= voters // 2


def consider(core: Core) -> None:
    """Notices, when a peer has said who it is, that the history is lost; does what was configured."""
    if core.pristine or core.lost or not core.founded or not majority_is_gone(core):
        return
    if core.configuration.find(core.me) is None:
        return
    shown = core.history[:5].hex()
    if not core.marks.first_command:
        core.report(Notice.HISTORY_LOST, f"{shown} held no command; starting over")
        lives.retire(core)
    elif core.parameters.forget_lost_history:
        core.report(Notice.HISTORY_LOST, f"{shown} is forgotten, as configured")
        lives.retire(core)
    else:
        core.lost = True
        core.become_follower(None)
        core.report(
            Notice.HISTORY_LOST,
            f"{shown}: a majority of its volatile voters forgot; writes are refused, weak reads go on. "
            "Restart this node to forget too.",
        )
        core.announce()
