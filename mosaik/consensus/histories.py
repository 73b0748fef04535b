"""Two histories of one group meet: one dissolves into the other, or both say that they cannot.

Theory of operation
-------------------
With ``bootstrap_expect`` = 1, nodes that cannot see each other found histories of their own. When they
meet, leaders tell each other what their histories hold. A history that never took a client command may
be given up: its leader appends ``DISSOLVE(into)``, which is also a fence, since no leader appends a
command after it. Once that entry is *committed* nothing was ever acknowledged there and nothing ever
will be, so each member erases its life and joins the other history. If both hold committed commands,
nothing can be merged without losing some: both go on for their own members, and say so.

Only leaders decide, and only on the word of a leader that a quorum has just confirmed.
"""

from __future__ import annotations

from mosaik.consensus import lives
from mosaik.consensus.core import Core
from mosaik.consensus.effects import Notice
from mosaik.consensus.messages import ClientClass, DissolvedNotice, HistoryInfo
from mosaik.primitives.entry import EntryKind
from mosaik.primitives.membership import Replica

__all__ = [
    "apply_dissolve",
    "heartbeat",
    "must_yield",
    "on_dissolved",
    "on_history_info",
]


def heartbeat(core: Core) -> None:
    """Tells the neighbours of other histories what ours holds."""
    if not core.founded:
        return
    info = HistoryInfo(
        history=core.history,
        term=core.term,
        founded=core.marks.founded <= core.commit,
        confirmed=core.quorum_confirmed >= core.now - 2 * core.parameters.heartbeat_interval,
        client=core.client_class,
    )
    for peer, neighbour in core.neighbours.items():
        status = neighbour.status
        if status is not None and status.founded and neighbour.history != core.history:
            core.send_peer(peer, info)


def on_history_info(core: Core, sender: Replica, info: HistoryInfo) -> None:
    """A leader of another history spoke, directly or through a member of ours."""
    if core.pristine or info.history == core.history:
        return
    if not core.is_leader:
        neighbour = core.neighbours.get(sender.peer)
        direct = neighbour is None or neighbour.history != core.history
        if direct and core.leader is not None and core.bonded(core.leader):
            core.send(core.leader, info)
        elif direct and core.leader is None:
            _left_behind(core, info)
        return
    if not (info.founded and info.confirmed and core.founded):
        return
    if core.client_class is ClientClass.SOME and info.client is ClientClass.SOME:
        if info.history not in core.divergent:
            core.divergent = core.divergent | {info.history}
            core.report(
                Notice.DIVERGENT_HISTORY,
                f"{core.history[:5].hex()} and {info.history[:5].hex()} both hold commands; "
                "choose one with `mosaik recover`",
            )
    elif must_yield(core, info):
        core.append(EntryKind.DISSOLVE, [info.history])


def _left_behind(core: Core, info: HistoryInfo) -> None:
    """Nobody leads here, and another history has a majority: this may be one that `recover` gave up."""
    # Without a leader nobody knows how much of the own log is committed.
    both = core.client_class is not ClientClass.NONE and info.client is ClientClass.SOME
    if both and info.founded and info.confirmed and info.history not in core.divergent:
        core.divergent = core.divergent | {info.history}
        core.report(
            Notice.DIVERGENT_HISTORY,
            f"nobody leads {core.history[:5].hex()} here, and {info.history[:5].hex()} has a leader and "
            "holds other commands; if this replica was given up by `mosaik recover`, let its node join "
            "that history: `mosaik log reset`",
        )


def must_yield(core: Core, info: HistoryInfo) -> bool:
    """Whether our history, having no client entry at all, has to give way to the other."""
    if core.fenced or core.client_class is not ClientClass.NONE:
        return False
    return info.client is ClientClass.SOME or info.history < core.history


def apply_dissolve(core: Core) -> None:
    """A committed ``DISSOLVE`` ends this life; the leader first tells everybody."""
    if not core.fenced or core.marks.dissolve > core.commit or not core.history:
        return
    if core.marks.dissolve > core.log.stable:
        return
    entry = core.log.entry(core.marks.dissolve)
    if entry is None:
        if core.dissolve_fetch != core.marks.dissolve:
            core.dissolve_fetch = core.marks.dissolve
            core.want(core.marks.dissolve)
        return
    end(core, entry.payload)


def end(core: Core, into: bytes) -> None:
    """Leaves a dissolved history for good."""
    history = core.history
    core.report(
        Notice.DISSOLVED,
        f"{history[:5].hex()} into {into[:5].hex()}" if into else f"{history[:5].hex()} given up",
    )
    notice = DissolvedNotice(history, into)
    if core.is_leader:
        for peer in core.neighbours:
            core.send_peer(peer, notice)
    lives.end_life(core, into)


def on_dissolved(core: Core, sender: Replica, notice: DissolvedNotice) -> None:
    """Somebody knows that a history was dissolved; if it is ours, we follow."""
    del sender
    if core.history and notice.history == core.history:
        end(core, notice.into)
