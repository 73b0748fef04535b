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
from mosaik.consensus.status import status_of
from mosaik.primitives.membership import Member, Role

__all__ = ["consider"]


def consider(core: Core) -> None:
    """Notices, when a peer has said who it is, that the history is lost; does what was configured."""
    if core.pristine or core.lost or not core.founded or not _majority_is_gone(core):
        return
    if core.configuration.find(core.me) is None or _somebody_may_know_more(core):
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


def _majority_is_gone(core: Core) -> bool:
    """Whether the voters that may still return are no majority of the configuration that we know."""
    voters = [member for member in core.configuration.members if member.role is Role.VOTER]
    remaining = [voter for voter in voters if not _gone(core, voter)]
    return bool(voters) and len(remaining) <= len(voters) // 2


def _gone(core: Core, member: Member) -> bool:
    """Its peer is here as somebody else, and what it was existed in memory only."""
    neighbour = core.neighbours.get(member.replica.peer)
    reborn = neighbour is not None and neighbour.replica not in (None, member.replica)
    return member.volatile and reborn


def _somebody_may_know_more(core: Core) -> bool:
    """Whether the configuration that we know may be an old one.

    The learners in it may have been promoted since, without us. One that has seen the same voters go
    and holds no more than we do has not been, and will not be: a promotion that neither of us holds
    was not committed by those who remain. So each is asked, anew whenever somebody else is gone.
    """
    gone = frozenset(m.replica for m in core.configuration.members if _gone(core, m))
    if gone != core.loss[0]:
        core.loss = (gone, core.rng.getrandbits(62) | 1)
        for member in _other_learners(core):
            core.send_peer(member.replica.peer, status_of(core, asks=core.loss[1]))
    return any(_may_know_more(core, member) for member in _other_learners(core))


def _other_learners(core: Core) -> list[Member]:
    return [
        member
        for member in core.configuration.members
        if member.role is Role.LEARNER and member.replica != core.me and not _gone(core, member)
    ]


def _may_know_more(core: Core, member: Member) -> bool:
    neighbour = core.neighbours.get(member.replica.peer)
    if neighbour is None or neighbour.status is None or neighbour.history != core.history:
        return True
    if neighbour.echo != core.loss[1]:
        return True
    return core.log.last_cursor.is_behind(neighbour.status.last)
