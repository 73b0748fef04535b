"""Linearizable reads without a log entry: ReadIndex (thesis §6.4).

Theory of operation
-------------------
A leader that has committed an entry of its own term knows every commit that was ever acknowledged. It
notes its commit index and starts a round; once a majority has answered that round, no newer leader can
have existed when the read was asked, and whoever has applied that index may answer. Reads that arrive
together share a round. A follower asks its leader for the index and answers from its own machine.
"""

from __future__ import annotations

from mosaik.consensus import replication
from mosaik.consensus.core import Core
from mosaik.consensus.effects import ReadReady, Refused
from mosaik.consensus.messages import ReadIndex, ReadIndexReply
from mosaik.primitives.membership import Replica

__all__ = [
    "fail_all",
    "on_commit",
    "on_read",
    "on_read_index",
    "on_read_index_reply",
    "on_round",
    "start",
    "term_is_committed",
]


def term_is_committed(core: Core) -> bool:
    """Whether this leader has committed an entry of its own term, and so knows all earlier commits."""
    return core.is_leader and core.log.term_at(core.commit) == core.term


def on_read(core: Core, token: int) -> None:
    """A caller on this node wants to read."""
    if core.is_leader:
        core.reads_waiting.append((token, None))
    elif core.leader is not None and core.bonded(core.leader):
        # Not the token: an answer to the same one of an earlier process would confirm this read.
        nonce = core.rng.getrandbits(62)
        core.reads_remote[nonce] = (token, core.leader)
        core.send(core.leader, ReadIndex(nonce))
    else:
        core.answer(Refused(token, core.leader, "no leader is known"))


def on_read_index(core: Core, sender: Replica, message: ReadIndex) -> None:
    """Another member wants to read."""
    if core.is_leader:
        core.reads_waiting.append((message.nonce, sender))
    else:
        core.send(sender, ReadIndexReply(message.nonce, 0, core.leader))


def on_read_index_reply(core: Core, sender: Replica, reply: ReadIndexReply) -> None:
    """The leader answered a read of ours."""
    token, asked = core.reads_remote.get(reply.nonce, (0, None))
    if asked != sender:
        return
    del core.reads_remote[reply.nonce]
    if reply.index:
        core.answer(ReadReady(token, reply.index))
    else:
        core.answer(Refused(token, reply.leader, "the peer that was asked does not lead"))


def start(core: Core) -> None:
    """Begins one round for all reads that wait, once this term has committed something."""
    if not core.reads_waiting or not core.established or not term_is_committed(core):
        return
    round_ = replication.start_round(core)
    index = core.commit
    for token, origin in core.reads_waiting:
        core.reads_confirming.append((round_, index, token, origin))
    core.reads_waiting = []
    if core.configuration.voters == (core.me,):
        on_round(core, round_)


def on_commit(core: Core) -> None:
    """The first commit of a term lets waiting reads begin."""
    start(core)


def on_round(core: Core, confirmed: int) -> None:
    """A majority has answered this round: its reads, and those of earlier ones, may be answered."""
    if not core.reads_confirming or core.reads_confirming[0][0] > confirmed:
        return
    still: list[tuple[int, int, int, Replica | None]] = []
    for round_, index, token, origin in core.reads_confirming:
        if round_ > confirmed:
            still.append((round_, index, token, origin))
        elif origin is None:
            core.answer(ReadReady(token, index))
        else:
            core.send(origin, ReadIndexReply(token, index))
    core.reads_confirming = still


def fail_all(core: Core, reason: str) -> None:
    """Leadership or the leader is gone: nobody can confirm these reads any more."""
    waiting = [(token, origin) for token, origin in core.reads_waiting]
    waiting += [(token, origin) for _, _, token, origin in core.reads_confirming]
    core.reads_waiting, core.reads_confirming = [], []
    for token, origin in waiting:
        if origin is None:
            core.answer(Refused(token, core.leader, reason))
        else:
            core.send(origin, ReadIndexReply(token, 0, core.leader))


def fail_remote(core: Core, reason: str) -> None:
    """The leader that was asked is not the leader any more, or cannot be reached."""
    for nonce, (token, asked) in list(core.reads_remote.items()):
        if asked != core.leader or not core.bonded(asked):
            del core.reads_remote[nonce]
            core.answer(Refused(token, core.leader, reason))
