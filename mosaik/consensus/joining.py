"""How a pristine replica becomes a member of a history that exists.

It binds its life to one founded history, durably, and asks that history's leader to be a learner, again
with every heartbeat. Until the first AppendEntries came it may give up: then nothing of that history
was ever acknowledged by it, and its next life may choose anew.
"""

from __future__ import annotations

from mosaik.consensus import lives
from mosaik.consensus.core import Core
from mosaik.consensus.effects import Notice
from mosaik.consensus.messages import JoinReply, JoinRequest
from mosaik.consensus.status import status_of
from mosaik.primitives.membership import Replica, Role

__all__ = ["on_join_reply", "tick"]


def tick(core: Core) -> None:
    """Chooses a history to join; asks to be let in; gives up what cannot be reached."""
    if core.quarantine or core.lost:
        return
    if core.pristine:
        if core.able:
            _ask_around(core)
            _choose(core)
    elif not core.left and not core.is_leader and _outside(core):
        _ask(core)


def _outside(core: Core) -> bool:
    """Whether this replica is no member, as far as it can tell.

    One that was removed while it was away does not hear of it: nobody speaks to it any more. So a
    member that hears nothing, while others say who leads, asks to join as it is. If it is still a
    member, the leader simply says so.
    """
    if core.attempt is not None and not core.founded and not _founded_without_us(core):
        return False
    silent = core.now >= core.included + core.parameters.genesis_timeout
    return silent or core.configuration.find(core.me) is None


def _founded_without_us(core: Core) -> bool:
    """Whether our attempt was founded, and this founder was given up before it heard of that."""
    return any(
        neighbour.history == core.history
        and neighbour.status is not None
        and neighbour.status.founded
        for neighbour in core.neighbours.values()
    )


def _ask_around(core: Core) -> None:
    """Asks everybody who they are, now and then: a status is said when something changes, and may have
    been lost."""
    if core.now >= core.asked_around + core.parameters.genesis_timeout:
        core.asked_around = core.now
        for peer in core.neighbours:
            core.send_peer(peer, status_of(core, asks=1))


def _choose(core: Core) -> None:
    """Binds to the founded history in sight; with client commands before without, then lowest id."""
    histories: dict[bytes, bool] = {}
    for neighbour in core.neighbours.values():
        status = neighbour.status
        if status is None or not status.founded or not status.member or status.lost:
            continue
        if neighbour.history in core.dissolved or not neighbour.history:
            continue
        histories[neighbour.history] = histories.get(neighbour.history, False) or status.has_client
    if not histories:
        return
    living = sorted(history for history, has_client in histories.items() if has_client)
    if len(living) > 1:
        names = frozenset(living)
        if names != core.divergent:
            core.divergent = names
            shown = " and ".join(history[:5].hex() for history in living)
            core.report(Notice.DIVERGENT_HISTORY, f"{shown} both hold commands; joining neither")
        return
    _bind(core, living[0] if living else min(histories))


def _bind(core: Core, history: bytes) -> None:
    core.history = history
    core.attempt = None
    core.term = 0
    core.voted_for = None
    core.join_since = core.now
    core.join_asked = float("-inf")
    core.heard_append = False
    core.mark_dirty()
    core.announce()
    core.report(Notice.JOINED, f"asking to join history {history[:5].hex()}")


def _ask(core: Core) -> None:
    p = core.parameters
    if _gave_nothing(core) and core.now >= core.join_since + p.genesis_timeout:
        lives.end_life(core)
        return
    if core.now < core.join_asked + p.heartbeat_interval:
        return
    core.join_asked = core.now
    target = _leader_of(core)
    if target is not None:
        core.send(target, JoinRequest(core.member(Role.LEARNER)))


def _gave_nothing(core: Core) -> bool:
    """Whether this life joined and never acknowledged anything, so that it may be ended."""
    empty = core.log.last_index == 0 and not core.suspect
    return core.attempt is None and empty and not core.heard_append


def _leader_of(core: Core) -> Replica | None:
    """The bonded leader of our history: whoever is named for the highest term, and is still that replica."""
    ours = [n.status for n in core.neighbours.values() if n.history == core.history]
    named = [(core.term, core.leader), *((s.term, s.leader) for s in ours if s is not None)]
    chosen: Replica | None = None
    highest = -1
    for term, leader in named:
        if leader is None or leader == core.me or term <= highest:
            continue
        there = core.neighbours.get(leader.peer)
        if there is not None and there.replica in (None, leader):
            highest, chosen = term, leader
    return chosen


def on_join_reply(core: Core, sender: Replica, reply: JoinReply) -> None:
    """The leader let us in, or says who leads."""
    if reply.index:
        core.join_since = core.now
        return
    leader = reply.leader
    elsewhere = leader is not None and leader not in (sender, core.me) and core.bonded(leader)
    if leader is not None and elsewhere and _outside(core):
        core.send(leader, JoinRequest(core.member(Role.LEARNER)))
