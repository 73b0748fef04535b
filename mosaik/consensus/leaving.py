"""Handing leadership over, leaving, and removing others: what a caller asks of this replica.

Theory of operation
-------------------
*Transfer* (thesis §3.10): the leader stops taking commands, waits until the target's log equals its
own, and tells it to stand at once. If nothing comes of it within an election timeout, it goes on.

*Leaving* is a removal that the replica asks for itself, again with every heartbeat until it is
confirmed. A leader transfers first, so that no leader ever leads without being a member; a leader that
is the only voter first promotes a learner that has caught up.
"""

from __future__ import annotations

from mosaik.consensus import changes
from mosaik.consensus.core import Core
from mosaik.consensus.effects import LAST_VOTER, Done, Notice, Refused
from mosaik.consensus.inputs import Leave, Transfer
from mosaik.consensus.messages import LeaveReply, LeaveRequest, TimeoutNow
from mosaik.primitives.membership import Replica, Role

__all__ = ["on_leave", "on_leave_reply", "on_transfer", "tick"]


def on_transfer(core: Core, request: Transfer) -> None:
    """A caller wants somebody else to lead."""
    if not core.is_leader:
        core.answer(Refused(request.token, core.leader, "this replica does not lead"))
        return
    target = _choose_target(core, request.peer)
    if target is None:
        core.answer(Refused(request.token, core.me, "no other voter can be reached"))
        return
    if core.transfer_token is not None:
        core.answer(Refused(core.transfer_token, core.me, "another transfer was asked for"))
    core.transfer_token = request.token
    _begin(core, target)


def _choose_target(core: Core, peer: bytes | None) -> Replica | None:
    """The named voter, or the most advanced one; the willing before the reluctant."""
    best: tuple[bool, int] | None = None
    chosen: Replica | None = None
    for member in core.configuration.members:
        replica = member.replica
        progress = core.progress.get(replica)
        if member.role is not Role.VOTER or progress is None or not core.bonded(replica):
            continue
        if peer is not None and replica.peer != peer:
            continue
        key = (member.reluctance <= 1, progress.match)
        if best is None or key > best:
            best, chosen = key, replica
    return chosen


def _begin(core: Core, target: Replica) -> None:
    core.transfer_target = target
    core.transfer_sent = False
    core.transfer_deadline = core.now + core.parameters.election_timeout


def tick(core: Core) -> None:
    """Drives a transfer and a leave that are under way."""
    _tick_transfer(core)
    if core.leave_token is not None:
        _tick_leave(core)
    for replica, (_, asked) in list(core.remote_removals.items()):
        if core.leader is not None and core.now - asked >= core.parameters.heartbeat_interval:
            _ask_removal(core, replica)


def _tick_transfer(core: Core) -> None:
    target = core.transfer_target
    if target is None:
        return
    if not core.is_leader:
        _end_transfer(core, done=core.leader is not None and core.leader != core.me)
        return
    progress = core.progress.get(target)
    if progress is None or core.now >= core.transfer_deadline:
        _end_transfer(core, done=False)
    elif not core.transfer_sent and progress.match >= core.log.last_index:
        core.transfer_sent = True
        core.send(target, TimeoutNow(core.term))


def _end_transfer(core: Core, *, done: bool) -> None:
    if not done and not core.is_leader and core.now < core.transfer_deadline:
        # Deposed, and nobody leads yet: the target may still win.
        return
    token, core.transfer_token, core.transfer_target = core.transfer_token, None, None
    core.transfer_deadline = float("inf")
    if token is not None:
        core.answer(Done(token) if done else Refused(token, core.leader, "the transfer timed out"))


def on_leave(core: Core, request: Leave) -> None:
    """A caller wants this replica, or another peer's, removed for good."""
    if request.replica_of is not None and request.replica_of != core.me.peer:
        _remove_other(core, request.token, request.replica_of)
    elif core.pristine or (request.end_history and core.configuration.voters == (core.me,)):
        core.left = True
        core.report(Notice.LEFT, "this replica belongs to no history any more")
        core.answer(Done(request.token))
    else:
        core.leave_token = request.token
        core.leave_asked = float("-inf")
        _tick_leave(core)


def _remove_other(core: Core, token: int, peer: bytes) -> None:
    member = core.configuration.of_peer(peer)
    if member is None:
        core.answer(Refused(token, core.leader, "that peer is not a member"))
    elif core.is_leader:
        changes.request_removal(core, member.replica, token)
    else:
        core.remote_removals[member.replica] = (token, float("-inf"))


def _ask_removal(core: Core, replica: Replica) -> None:
    token, _ = core.remote_removals[replica]
    core.remote_removals[replica] = (token, core.now)
    if core.is_leader:
        del core.remote_removals[replica]
        changes.request_removal(core, replica, token)
    elif core.leader is not None:
        core.send(core.leader, LeaveRequest(replica))


def _tick_leave(core: Core) -> None:
    if core.is_leader:
        _leave_as_leader(core)
        return
    due = core.now - core.leave_asked >= core.parameters.heartbeat_interval
    if core.leader is not None and due:
        core.leave_asked = core.now
        core.send(core.leader, LeaveRequest(core.me))


def _leave_as_leader(core: Core) -> None:
    if core.transfer_target is not None or not changes.may_change(core):
        return
    target = _choose_target(core, None)
    if target is not None:
        _begin(core, target)
        return
    if core.configuration.voters != (core.me,):
        return
    for member in core.configuration.members:
        progress = core.progress.get(member.replica)
        ahead = progress is not None and progress.match >= core.log.last_index
        if member.role is Role.LEARNER and not member.observer and ahead:
            changes.promote(core, member)
            return
    if not any(m.role is Role.LEARNER and not m.observer for m in core.configuration.members):
        token, core.leave_token = core.leave_token, None
        if token is not None:
            core.answer(Refused(token, core.me, LAST_VOTER))


def on_leave_reply(core: Core, sender: Replica, reply: LeaveReply) -> None:
    """The leader answered a removal that this replica asked for."""
    if sender != core.leader and not reply.index:
        return
    if reply.replica == core.me:
        if reply.index and core.leave_token is not None:
            token, core.leave_token = core.leave_token, None
            core.left = True
            core.report(Notice.LEFT, "the group removed this replica at its own request")
            core.answer(Done(token))
        return
    waiting = core.remote_removals.get(reply.replica)
    if waiting is None:
        return
    if reply.index:
        del core.remote_removals[reply.replica]
        core.answer(Done(waiting[0]))
    elif reply.leader == sender:
        del core.remote_removals[reply.replica]
        core.answer(Refused(waiting[0], reply.leader, reply.reason))


def hand_over(core: Core) -> None:
    """A leader that stepped down passes the removals asked of it on to its successor."""
    for replica, waiters in core.removing.items():
        for waiter in waiters:
            if isinstance(waiter, int):
                core.remote_removals[replica] = (waiter, float("-inf"))
    core.removing = {}
