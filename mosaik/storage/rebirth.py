"""Who a restored log is: never the replica that wrote it.

Theory of operation
-------------------
A backup is older than the replica it was made of. Since then that replica may have voted, and acknowledged
entries that the backup does not hold; others count on both. So what is restored gets a *new store id* and
life 0: to its group it is a replica that nobody has heard of. (A further life of the old one would be read
as a proof about that one.) It has voted for nobody. It keeps the history and the entries, to which no more
weight is given than to any newcomer's: it asks to join as a learner, the leader compares the logs, cuts
what differs and supplies what is missing, and only a change of the configuration makes it count. The old
replica of this peer is replaced as soon as a majority sees the new one.

Some of what the old one remembered is not the new one's: its vote, its part in an attempt to found, and its
quarantine, to which a new store id is the cure. A log whose founding was not certain holds nothing that was
acknowledged; it is restored as the empty log of a newcomer.

When a majority of the voters is lost for good, no learner can ever be let in. Then, and only then,
`found_anew` makes a *new history* of the log, whose only voter is the restored replica. Under a new history
id nothing that an old replica still says or hears is mistaken for it; old replicas that turn up report that
the two diverge.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from mosaik.primitives.digest import Digest
from mosaik.primitives.durable import Anchor, HardState
from mosaik.primitives.entry import Entry, EntryKind, seal
from mosaik.primitives.errors import ConfigError
from mosaik.primitives.membership import Configuration, Member, Replica, Role, configuration_codec
from mosaik.storage.backup import read_runs
from mosaik.storage.contract import LogIdentity, StorageEnvironment
from mosaik.storage.plan import STORE_ID_SIZE
from mosaik.storage.transfer import LogHead, Report, begin_log, fill_log, finish_log

__all__ = ["found_anew", "is_founded", "reborn", "restore_log"]


def is_founded(head: LogHead) -> bool:
    """Whether the log certainly belongs to a founded history, so that it may hold what was acknowledged."""
    return bool(head.hard_state.history) and 0 < head.hard_state.founded <= head.tail.index


def reborn(head: LogHead, peer: bytes) -> LogHead:
    """The head of a log as a new replica of this peer is to have it; empty if it was not founded."""
    old = head.hard_state
    store = os.urandom(STORE_ID_SIZE)
    identity = LogIdentity(
        group=head.identity.group, peer=peer, key=head.identity.key, parts=head.identity.parts
    )
    if not is_founded(head):
        pristine = HardState(store=store, dissolved=old.dissolved)
        return LogHead(identity=identity, hard_state=pristine, anchor=Anchor(), tail=Anchor())
    hard_state = HardState(
        term=old.term,
        store=store,
        history=old.history,
        configs=old.configs,
        founded=old.founded,
        first_command=old.first_command,
        dissolve=old.dissolve,
        dissolved=old.dissolved,
        floors=tuple((replica, seen) for replica, seen in old.floors if replica.peer != peer),
    )
    return msgspec.structs.replace(head, identity=identity, hard_state=hard_state)


def found_anew(head: LogHead, time_ms: int) -> tuple[LogHead, Entry[bytes]]:
    """A new history that continues a reborn log, with this replica as its only voter.

    Args:
        head: as `reborn` made it.
        time_ms: when the log's last entry was sealed.

    Returns:
        The log's head, and the entry that comes after its last.

    Raises:
        ConfigError: the log's history was not founded, or was being dissolved into another.
    """
    hard, end = head.hard_state, head.tail
    if not is_founded(head):
        raise ConfigError(
            "the log's history was never founded, so there is nothing to begin a new one with; restore it "
            "without a new history, or start the node with an empty store"
        )
    if hard.dissolve:
        raise ConfigError(
            "the log's history was being dissolved into another, which is where its node belongs; restore "
            "it without a new history"
        )
    me = Replica(head.identity.peer, hard.store, hard.life)
    alone = Configuration((Member(me, Role.VOTER, joined=end.index + 1),))
    payload = configuration_codec.encode(alone)
    entry = seal(EntryKind.CONFIG, end.index + 1, end.term, time_ms, payload, end.checksum)
    history = Digest.hash(b"mosaik-history-restored", hard.history, me.peer, me.store)
    hard_state = msgspec.structs.replace(
        hard, history=bytes(history), configs=(*hard.configs[-1:], entry.index), floors=()
    )
    tail = Anchor(entry.term, entry.index, entry.checksum)
    return msgspec.structs.replace(head, hard_state=hard_state, tail=tail), entry


def restore_log(
    environment: StorageEnvironment,
    backup: Path,
    head: LogHead,
    peer: bytes,
    *,
    new_history: bool = False,
    report: Report | None = None,
) -> LogHead:
    """Makes a log of a backup in a store that has none of its group.

    Args:
        backup: the file, which was found good.
        head: the log's, as it stands there.
        peer: the node that the store belongs to.
        new_history: found it anew, with this replica as its only voter.
        report: is called with the number of entries written since the last call.

    Returns:
        What was made.

    Raises:
        ConfigError: it cannot begin a new history. StorageError: the store refuses it.
    """
    made = reborn(head, peer)
    if new_history:
        found_anew(made, 0)  # what is wrong with that is said before anything is written
    log = begin_log(environment, made)
    if made.count:
        fill_log(log, read_runs(backup, head), report)
    if new_history:
        last = log.get(made.tail.index)
        made, entry = found_anew(made, last.time_ms if last else 0)
        log.append([entry])
    finish_log(log, made)
    return made
