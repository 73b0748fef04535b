"""What a running group shows to its operator: where it stands, and its log as a backup.

Both read through the store's own thread, between the node's writes. A backup holds the log up to what was
committed when it began: that never changes, so the slices that it is read in make up one state.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING

import msgspec

import mosaik
from mosaik.primitives.durable import Anchor
from mosaik.primitives.errors import StorageUnavailable
from mosaik.storage.backup import BackupHead, cut_head, stream_backup
from mosaik.storage.transfer import LogHead, read_head

if TYPE_CHECKING:
    from mosaik.groups.running import RunningGroup

__all__ = ["GroupReport", "LogReport", "MemberReport", "report_on", "stream_group"]


class MemberReport(msgspec.Struct, frozen=True, kw_only=True):
    """A member of the newest configuration.

    Attributes:
        peer: its id, in hex.
        store, life: which replica of that peer it is.
        role: ``voter`` or ``learner``.
        bonded: whether this node can speak to it; true for itself.
        leads: whether it leads, as far as this node knows.
    """

    peer: str
    store: str
    life: int
    role: str
    bonded: bool
    leads: bool


class LogReport(msgspec.Struct, frozen=True, kw_only=True):
    """The log of a group in its opened store.

    Attributes:
        url, engine, sync: of the store.
        capabilities: what it claims to survive.
        settings: the engine's own, read back from it.
        pruned, last: what was pruned last, and the last index.
        suspect: first and last index of a damaged tail, if there is one.
    """

    url: str
    engine: str
    sync: str
    capabilities: tuple[str, ...]
    settings: Mapping[str, str]
    pruned: int
    last: int
    suspect: tuple[int, int] | None


class GroupReport(msgspec.Struct, frozen=True, kw_only=True):
    """Where a group stands on this node.

    Attributes:
        group: its id, in hex.
        parts: what the id is made of besides the key.
        history: the history that it is in; empty before there is one.
        founded, online, lost, quarantined: see `mosaik.consensus.View`.
        role: follower, pre-candidate, candidate or leader.
        leader: the leader's id, if it is known.
        term, committed, applied, last: where the log stands; ``last`` need not be committed.
        members: the newest configuration.
        bonds: ids of the peers that this node can speak to.
        log: the store; None while it is not open.
    """

    group: str
    parts: Mapping[str, str]
    history: str
    founded: bool
    online: bool
    lost: bool
    quarantined: bool
    role: str
    leader: str | None
    term: int
    committed: int
    applied: int
    last: int
    members: tuple[MemberReport, ...]
    bonds: tuple[str, ...]
    log: LogReport | None


async def report_on(running: RunningGroup) -> GroupReport:
    """Where the group stands.

    Raises:
        StorageUnavailable: its store is not open.
    """
    log = await _log_report(running)
    view = running.replica.view
    if view is None:
        raise _not_open(running)
    peers = {bond.remote for bond in running.bonds}
    members = tuple(
        MemberReport(
            peer=member.replica.peer.hex(),
            store=member.replica.store.hex(),
            life=member.replica.life,
            role=member.role.name.lower(),
            bonded=member.replica.peer in peers or member.replica.peer == running.node.peer,
            leads=member.replica == view.leader,
        )
        for member in view.configuration.members
    )
    return GroupReport(
        group=running.config.group_id.hex(),
        parts=running.config.parts,
        history=view.history.hex(),
        founded=view.founded,
        online=view.online,
        lost=view.lost,
        quarantined=view.quarantined,
        role=view.role,
        leader=view.leader.peer.hex() if view.leader else None,
        term=view.term,
        committed=view.commit,
        applied=running.replica.applier.applied,
        last=view.last,
        members=members,
        bonds=tuple(sorted(peer.hex() for peer in peers)),
        log=log,
    )


async def _log_report(running: RunningGroup) -> LogReport:
    opened = running.opened
    if opened is None:
        raise _not_open(running)
    described = opened.describe()
    log = opened.storage

    def read() -> LogReport:
        suspect = log.suspect
        return LogReport(
            url=described.url,
            engine=described.engine,
            sync=described.sync,
            capabilities=tuple(sorted(described.capabilities)),
            settings=described.settings,
            pruned=log.anchor.index,
            last=log.tail.index,
            suspect=(suspect.start, suspect.end) if suspect else None,
        )

    return await opened.call(read)


def _not_open(running: RunningGroup) -> StorageUnavailable:
    if running.over:
        return StorageUnavailable(f"the group {running.config.group_id.short} has ended here")
    return StorageUnavailable(
        f"the store of group {running.config.group_id.short} is being opened; try again in a moment"
    )


async def stream_group(running: RunningGroup) -> AsyncGenerator[bytes, None]:
    """The bytes of a backup of what is committed.

    Raises:
        StorageUnavailable: the store is not open, or was closed meanwhile.
        CorruptEntry: an entry is damaged, or the log's end is suspect.
    """
    opened, view = running.opened, running.replica.view
    if opened is None or view is None:
        raise _not_open(running)
    committed = view.applicable
    log, identity = opened.storage, opened.identity

    def read() -> LogHead:
        whole = read_head(identity, log)
        if committed >= whole.tail.index:
            return whole
        entry = log.get(committed)
        if entry is None:
            return cut_head(whole, whole.anchor)
        return cut_head(whole, Anchor(entry.term, entry.index, entry.checksum))

    head = BackupHead(
        made_ms=time.time_ns() // 1_000_000,
        version=mosaik.__version__,
        url=opened.describe().url,
        peer=bytes(running.node.peer),
        hot=True,
    )
    log_head = await opened.call(read)
    async for piece in stream_backup(head, [(log_head, log)], opened.call):
        yield piece
