"""Messages, writes and answers in a few words, for traces and transcripts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from mosaik.consensus import Accepted, Done, ReadReady, Refused
from mosaik.consensus import messages as m
from mosaik.primitives.durable import WriteBatch
from mosaik.primitives.entry import Entry, EntryKind, split_sealed
from mosaik.primitives.membership import Configuration, Replica, Role, configuration_codec

__all__ = ["Names", "Show"]


class Names:
    """Short names: ``n1`` for a peer, ``n1.2`` in its life 2, ``n1'`` on its second store; ``A``, ``B``
    for histories in the order in which they are first spoken of."""

    def __init__(self) -> None:
        self.peers: dict[bytes, str] = {}
        self._stores: dict[bytes, list[bytes]] = {}
        self._histories: dict[bytes, str] = {}

    def history(self, history: bytes) -> str:
        if not history:
            return "-"
        return self._histories.setdefault(history, chr(ord("A") + len(self._histories) % 26))

    def replica(self, replica: Replica | None) -> str:
        if replica is None:
            return "nobody"
        stores = self._stores.setdefault(replica.peer, [])
        if replica.store not in stores:
            stores.append(replica.store)
        life = f".{replica.life}" if replica.life else ""
        return f"{self.peers[replica.peer]}{life}" + "'" * stores.index(replica.store)


class Show:
    """Puts things into words."""

    def __init__(self, names: Names) -> None:
        self.names = names

    # -- entries ------------------------------------------------------------------------------------

    def configuration(self, configuration: Configuration) -> str:
        names = [
            self.names.replica(member.replica) + ("" if member.role is Role.VOTER else "?")
            for member in configuration.members
        ]
        return f"({' '.join(names)})"

    def entry(self, entry: Entry[Any]) -> str:
        text = f"{entry.index}:{entry.kind.name.lower()}"
        if entry.kind is EntryKind.CONFIG:
            text += self.configuration(configuration_codec.decode(entry.payload))
        elif entry.kind is EntryKind.COMMAND:
            text += f"({entry.payload.decode(errors='replace')})"
        elif entry.kind is EntryKind.DISSOLVE:
            text += f"({self.names.history(entry.payload)})"
        return f"{text}/t{entry.term}"

    def batch(self, batch: WriteBatch[Any]) -> str:
        """What a write changes."""
        parts: list[str] = []
        hard = batch.hard_state
        if hard is not None:
            vote = f" vote={self.names.replica(hard.voted_for)}" if hard.voted_for else ""
            life = f" life={hard.life}" if hard.life else ""
            quarantine = " quarantine" if hard.quarantine else ""
            parts.append(f"{self.names.history(hard.history)} t{hard.term}{vote}{life}{quarantine}")
        if batch.reset_to is not None:
            parts.append("reset")
        if batch.truncate_from is not None:
            parts.append(f"truncate {batch.truncate_from}..")
        parts.extend(self.entry(entry) for entry in batch.entries)
        return ", ".join(parts) or "nothing"

    # -- answers ------------------------------------------------------------------------------------

    def answer(self, answer: Accepted | Refused | ReadReady | Done) -> str:
        match answer:
            case Accepted():
                return f"accepted at {answer.first} in t{answer.term}"
            case Refused():
                hint = f" (leader {self.names.replica(answer.leader)})" if answer.leader else ""
                return f"refused: {answer.reason}{hint}"
            case ReadReady():
                return f"may read at {answer.index}"
            case Done():
                return "done"

    # -- messages -----------------------------------------------------------------------------------

    def body(self, body: m.AnyBody) -> str:
        describe = _BODIES.get(type(body))
        return f"{type(body).__name__}{describe(self, body) if describe else ''}"


def _status(show: Show, body: m.Status) -> str:
    founded = " founded" if body.founded else ""
    leader = f" leader={show.names.replica(body.leader)}" if body.leader else ""
    return f" {body.phase.name.lower()} t{body.term} last={body.last.index}{founded}{leader}"


def _append(show: Show, body: m.AppendEntries) -> str:
    entries = " ".join(show.entry(entry) for entry in split_sealed(body.entries))
    previous = f"{body.previous.index}/t{body.previous.term}"
    return f" t{body.term} after {previous} [{entries}] commit={body.commit}"


def _append_reply(show: Show, body: m.AppendReply) -> str:
    del show
    if body.success:
        return f" t{body.term} match={body.match}"
    return f" t{body.term} refused, try {body.hint.index}/t{body.hint.term}"


def _vote(show: Show, body: m.VoteRequest) -> str:
    del show
    kind = " pre" if body.pre else " forced" if body.forced else ""
    return f"{kind} t{body.term} last={body.last.index}/t{body.last.term}"


def _vote_reply(show: Show, body: m.VoteReply) -> str:
    del show
    reason = f" ({body.reason})" if body.reason else ""
    return f"{' pre' if body.pre else ''} t{body.term} {body.vote.name.lower()}{reason}"


def _propose(show: Show, body: m.Propose) -> str:
    giving_up = " or give it up" if body.giving_up else ""
    founders = show.configuration(body.attempt.founders)
    return f" {show.names.history(body.attempt.history)}{founders}{giving_up}"


def _propose_reply(show: Show, body: m.ProposeReply) -> str:
    return f" {show.names.history(body.history)} {body.verdict.name.lower()}"


def _info(show: Show, body: m.HistoryInfo) -> str:
    confirmed = " confirmed" if body.confirmed else ""
    return f" {show.names.history(body.history)} client={body.client.name.lower()}{confirmed}"


def _join_reply(show: Show, body: m.JoinReply) -> str:
    return f" at {body.index}" if body.index else f" no: {body.reason}"


def _leave(show: Show, body: m.LeaveRequest) -> str:
    return f" {show.names.replica(body.replica)}"


def _leave_reply(show: Show, body: m.LeaveReply) -> str:
    gone = f" {show.names.replica(body.replica)}"
    return f"{gone} at {body.index}" if body.index else f"{gone} no: {body.reason}"


def _rolled_back(show: Show, body: m.RolledBack) -> str:
    del show
    return f" seen={body.seen.index}/t{body.seen.term} claimed={body.claimed.index}/t{body.claimed.term}"


def _dissolved(show: Show, body: m.DissolvedNotice) -> str:
    return f" {show.names.history(body.history)} into {show.names.history(body.into)}"


_BODIES: Final[dict[type, Callable[[Show, Any], str]]] = {
    m.Status: _status,
    m.AppendEntries: _append,
    m.AppendReply: _append_reply,
    m.VoteRequest: _vote,
    m.VoteReply: _vote_reply,
    m.Propose: _propose,
    m.ProposeReply: _propose_reply,
    m.HistoryInfo: _info,
    m.JoinReply: _join_reply,
    m.LeaveRequest: _leave,
    m.LeaveReply: _leave_reply,
    m.RolledBack: _rolled_back,
    m.DissolvedNotice: _dissolved,
    m.ReadIndexReply: lambda show, body: f" index={body.index}",
}
