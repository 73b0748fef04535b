"""Changing who counts: joins, promotions, replacements and removals, at the leader (thesis §4).

Theory of operation
-------------------
One replica changes at a time, and a change may begin only when

* this leader has committed an entry of its own term (the correction of 2015 to thesis §4.1),
* the newest configuration in its log is committed, and
* the history is founded and not fenced.

Wishes (joiners, leavers, the dead) therefore wait in the core and `next_change` takes the most urgent
one whenever the way is free. A new configuration counts from the moment it is appended; truncation
brings the one before it back. Removing a voter because it is *gone* is done only while a majority of
the configuration in force answers, so that a leader cut off from the others cannot shrink its quorum.
"""

from __future__ import annotations

from mosaik.consensus import reads, replication
from mosaik.consensus.core import Core
from mosaik.consensus.effects import LAST_VOTER, Done, Refused
from mosaik.consensus.messages import JoinReply, JoinRequest, LeaveReply, LeaveRequest
from mosaik.primitives.entry import EntryKind
from mosaik.primitives.membership import (
    Configuration,
    Member,
    Replica,
    Role,
    configuration_codec,
)

__all__ = [
    "heartbeat",
    "may_change",
    "next_change",
    "on_commit",
    "on_join_request",
    "on_leave_request",
    "promote",
    "propose",
    "request_removal",
]

#: A learner is promoted after so many heartbeats in a row at which it kept up.
CAUGHT_UP_HEARTBEATS = 10


def may_change(core: Core) -> bool:
    """Whether a configuration change may be appended now."""
    return (
        core.is_leader
        and core.established
        and not core.fenced
        and core.transfer_target is None
        and reads.term_is_committed(core)
        and core.config_index <= core.commit
    )


def propose(core: Core, configuration: Configuration) -> None:
    """Appends a configuration; it is in force from here on."""
    core.append(EntryKind.CONFIG, [configuration_codec.encode(configuration)])
    replication.refresh_members(core)


def next_change(core: Core) -> None:
    """Makes the most urgent change that is wanted, if one may be made."""
    if not may_change(core):
        return
    for wish in (_replace_reborn, _remove_wanted, _admit):
        if wish(core):
            return


def heartbeat(core: Core) -> None:
    """Once a heartbeat: notes who keeps up, promotes, and gives up on the silent."""
    since = core.now - 2 * core.parameters.heartbeat_interval
    for progress in core.progress.values():
        keeps_up = progress.match >= core.log_end_before and progress.heard >= since
        progress.caught_up = progress.caught_up + 1 if keeps_up else 0
    next_change(core)
    if may_change(core):
        _ = _promote_ready(core) or _remove_dead(core)


def on_commit(core: Core) -> None:
    """A commit may complete a removal, and lets the next change begin."""
    if core.config_index <= core.commit:
        members = {member.replica for member in core.configuration.members}
        for replica in [gone for gone in core.removing if gone not in members]:
            for waiter in core.removing.pop(replica):
                _confirm_removal(core, replica, waiter)
    next_change(core)


# -- joining ----------------------------------------------------------------------------------------


def on_join_request(core: Core, sender: Replica, request: JoinRequest) -> None:
    """A replica that bound itself to this history asks to be a learner."""
    member = request.member
    if member.replica != sender:
        core.send(sender, JoinReply(0, core.leader, "a replica can only ask for itself"))
    elif not core.is_leader:
        core.send(sender, JoinReply(0, core.leader, "not the leader"))
    elif not core.founded or core.fenced:
        core.send(sender, JoinReply(0, core.me, "this history takes no members now"))
    elif core.configuration.find(sender) is not None:
        core.send(sender, JoinReply(core.config_index, core.me))
    else:
        core.joiners[sender.peer] = member
        next_change(core)


def _admit(core: Core) -> bool:
    """Adds the first joiner as a learner. Learners never count."""
    for peer, member in list(core.joiners.items()):
        old = core.configuration.of_peer(peer)
        if old is not None and old.replica == member.replica:
            del core.joiners[peer]
            continue
        if old is not None and old.role is Role.VOTER:
            continue
        del core.joiners[peer]
        learner = Member(
            replica=member.replica,
            role=Role.LEARNER,
            observer=member.observer,
            volatile=member.volatile,
            reluctance=max(1, member.reluctance),
            joined=core.log.last_index + 1,
        )
        propose(core, core.configuration.with_member(learner))
        core.send(member.replica, JoinReply(core.config_index, core.me))
        return True
    return False


# -- promoting --------------------------------------------------------------------------------------


def _ready(core: Core, member: Member) -> bool:
    progress = core.progress.get(member.replica)
    return (
        member.role is Role.LEARNER
        and not member.observer
        and progress is not None
        and progress.caught_up >= CAUGHT_UP_HEARTBEATS
        and member.replica not in core.removing
    )


def _promote_ready(core: Core) -> bool:
    if len(core.configuration.voters) >= core.parameters.max_voters:
        return False
    ready = [member for member in core.configuration.members if _ready(core, member)]
    if not ready:
        return False
    promote(core, min(ready, key=lambda member: (member.reluctance > 1, member.joined)))
    return True


def promote(core: Core, member: Member) -> None:
    """Makes a learner a voter."""
    voter = Member(
        replica=member.replica,
        role=Role.VOTER,
        observer=member.observer,
        volatile=member.volatile,
        reluctance=member.reluctance,
        joined=member.joined,
    )
    propose(core, core.configuration.with_member(voter))


# -- removing ---------------------------------------------------------------------------------------


def _remove(core: Core, replica: Replica) -> None:
    propose(core, core.configuration.without(replica))


def _replace_reborn(core: Core) -> bool:
    """Removes a voter whose peer is here as somebody new: the old replica will never answer again."""
    if not replication.quorum_heard(core):
        return False
    for voter in core.configuration.voters:
        neighbour = core.neighbours.get(voter.peer)
        if voter == core.me or neighbour is None or neighbour.replica is None:
            continue
        now = neighbour.replica
        if now.store != voter.store or now.life > voter.life:
            _remove(core, voter)
            return True
    return False


def _remove_wanted(core: Core) -> bool:
    for replica in list(core.removing):
        member = core.configuration.find(replica)
        if member is None or replica == core.me:
            continue
        if core.configuration.voters == (replica,):
            continue
        if not replication.quorum_heard(core, without=replica):
            # Two of three where the third is dead: if it never comes back, neither does the group.
            continue
        _remove(core, replica)
        return True
    return False


def _remove_dead(core: Core) -> bool:
    """Gives the place of a voter that fell silent to a learner; forgets silent volatile learners."""
    if not replication.quorum_heard(core):
        return False
    limit = core.now - core.parameters.dead_voter_timeout
    voters = core.configuration.voters
    substitute = any(_ready(core, member) for member in core.configuration.members)
    for member in core.configuration.members:
        progress = core.progress.get(member.replica)
        if progress is None or progress.heard >= limit:
            continue
        # 3 voters without a substitute would become 2: the same tolerance of failures, a copy less.
        replaceable = len(voters) >= 4 or substitute
        if member.role is Role.VOTER and not replaceable:
            continue
        if member.role is Role.LEARNER and not member.volatile:
            continue
        _remove(core, member.replica)
        return True
    return False


def request_removal(core: Core, replica: Replica, waiter: int | Replica) -> None:
    """Wants a replica removed; ``waiter`` (a token of ours, or another replica) hears when it is."""
    if core.configuration.find(replica) is None:
        if core.config_index <= core.commit:
            _confirm_removal(core, replica, waiter)
        else:
            core.removing.setdefault(replica, []).append(waiter)
        return
    if core.configuration.voters == (replica,):
        _refuse_removal(core, replica, waiter, LAST_VOTER)
        return
    waiters = core.removing.setdefault(replica, [])
    if waiter not in waiters:
        waiters.append(waiter)
    next_change(core)


def on_leave_request(core: Core, sender: Replica, request: LeaveRequest) -> None:
    """Another member asks for a removal, its own or a third one's."""
    if not core.is_leader:
        core.send(sender, LeaveReply(request.replica, 0, core.leader, "not the leader"))
    elif request.replica == core.me:
        core.send(sender, LeaveReply(request.replica, 0, core.me, "the leader has to leave itself"))
    else:
        request_removal(core, request.replica, sender)


def _confirm_removal(core: Core, replica: Replica, waiter: int | Replica) -> None:
    if isinstance(waiter, int):
        core.answer(Done(waiter))
    else:
        core.send(waiter, LeaveReply(replica, core.config_index, core.me))


def _refuse_removal(core: Core, replica: Replica, waiter: int | Replica, reason: str) -> None:
    if isinstance(waiter, int):
        core.answer(Refused(waiter, core.me, reason))
    else:
        core.send(waiter, LeaveReply(replica, 0, core.me, reason))
