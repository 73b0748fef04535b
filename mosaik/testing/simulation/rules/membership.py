"""The rules of ``docs/membership.md``: one history per life, founding by all, and lawful endings."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from mosaik.consensus.messages import (
    Envelope,
    HistoryInfo,
    Propose,
    ProposeReply,
    ProposeVerdict,
)
from mosaik.primitives.durable import HardState
from mosaik.primitives.entry import Entry, EntryKind
from mosaik.primitives.membership import Replica
from mosaik.testing.simulation.rules import properties
from mosaik.testing.simulation.rules.ledger import HistoryLedger, Ledger
from mosaik.testing.simulation.rules.violation import Property
from mosaik.testing.simulation.rules.watched import Watched

__all__ = [
    "entry_committed",
    "founded_by_all",
    "identity_is_durable",
    "on_propose",
    "on_propose_reply",
    "written",
]


def written(ledger: Ledger, node: Watched, hard: HardState) -> None:
    """Rules for a hard state that became durable."""
    place = (node.peer, hard.store)
    life = ledger.lives.setdefault(place, hard.life)
    ledger.require(
        hard.life >= life, Property.LIFE_FORWARD, f"{node.name}: life {hard.life} after {life}"
    )
    if hard.life > life:
        _lawful_end(ledger, node, Replica(node.peer, hard.store, life))
    ledger.lives[place] = max(life, hard.life)
    if not hard.history:
        ledger.require(
            node.replica not in ledger.bound,
            Property.ONE_HISTORY,
            f"{node.name} forgets its history and keeps its life",
        )
        return
    bound = ledger.bound.setdefault(node.replica, hard.history)
    ledger.require(
        bound == hard.history,
        Property.ONE_HISTORY,
        f"{node.replica} serves {bound[:3].hex()} and {hard.history[:3].hex()}",
    )
    if hard.attempt is not None and hard.attempt.history == hard.history:
        history = ledger.history(hard.history)
        history.attempt = hard.attempt
        if node.store.last:
            history.accepted.add(node.replica)


def _lawful_end(ledger: Ledger, node: Watched, ended: Replica) -> None:
    """A life that served a history ends only when that history can do without what it vouched for."""
    bound = ledger.bound.get(ended)
    if bound is None:
        return
    history = ledger.history(bound)
    vouched = any(ended in acked for acked in history.acked.values()) or ended in history.accepted
    ledger.require(
        history.dead or history.dissolved_into is not None or not vouched,
        Property.LAWFUL_END,
        f"{node.name} leaves {history.name}, which is neither dead nor dissolved",
    )


def identity_is_durable(ledger: Ledger, node: Watched, envelope: Envelope) -> None:
    """A replica speaks as a life, of a history and in a term, that its disk knows of."""
    hard = node.store.hard_state
    sender = envelope.sender
    durable = (sender.store, sender.life, envelope.history) == (hard.store, hard.life, hard.history)
    body = envelope.body
    # A pre-vote speaks of a term to come, and what is passed on of another history's.
    other = getattr(body, "pre", False) or isinstance(body, HistoryInfo)
    term = 0 if other else getattr(body, "term", 0)
    if not durable or term > hard.term:
        ledger.broken(
            Property.DURABLE_TERM,
            f"{node.name} speaks as life {sender.life} of {envelope.history[:3].hex()} in term "
            f"{term}; its disk says {hard.life}, {hard.history[:3].hex()}, {hard.term}",
        )


def on_propose(ledger: Ledger, node: Watched, envelope: Envelope, _: bytes) -> None:
    """A founder that proposes has accepted, durably."""
    body = envelope.body
    assert isinstance(body, Propose)
    _accepted(ledger, node, body.attempt.history)


def _accepted(ledger: Ledger, node: Watched, attempt: bytes) -> None:
    history = ledger.history(attempt)
    ledger.require(
        node.replica in history.accepted and node.store.hard_state.history == attempt,
        Property.DURABLE_ACCEPT,
        f"{node.name} says that it accepted {history.name}; its disk does not",
    )
    if history.attempt is not None:
        properties.one_vote(ledger, history, 1, node.replica, history.attempt.proposer)


def on_propose_reply(ledger: Ledger, node: Watched, envelope: Envelope, _: bytes) -> None:
    """``ACCEPTED`` is durable; ``DEAD`` is a proof, and stays true."""
    body = envelope.body
    assert isinstance(body, ProposeReply)
    if body.verdict is ProposeVerdict.ACCEPTED:
        _accepted(ledger, node, body.history)
    elif body.verdict is ProposeVerdict.DEAD:
        history = ledger.history(body.history)
        hard = node.store.hard_state
        cited = [
            founder.life
            for founder in (history.attempt.founders.voters if history.attempt else ())
            if (founder.peer, founder.store) == (node.peer, hard.store)
        ]
        never = bool(cited) and (hard.life > cited[0] or bool(hard.history))
        ledger.require(
            never,
            Property.DURABLE_ACCEPT,
            f"{node.name} calls {history.name} dead, and its disk could still accept it",
        )
        if history.dissolved_into is None and not history.dead:
            history.dead = True
            ledger.counts["attempts proved dead"] += 1
        dead_is_never_founded(ledger, history)


def dead_is_never_founded(ledger: Ledger, history: HistoryLedger) -> None:
    """The lemma of the genesis proof."""
    living = history.founded and history.dissolved_into is None
    ledger.require(
        not (history.dead and living),
        Property.DEAD_STAYS_DEAD,
        f"{history.name} was declared dead and is founded",
    )


def founded_by_all(ledger: Ledger, history: HistoryLedger, node: Watched) -> None:
    """``FOUNDED`` is appended only when every founder has accepted."""
    founders: set[Replica] = set(history.attempt.founders.voters) if history.attempt else set()
    missing = founders - history.accepted
    ledger.require(
        bool(founders) and not missing,
        Property.FOUNDED_BY_ALL,
        f"{node.name} founds {history.name} without {len(missing)} of its founders",
    )


def entry_committed(ledger: Ledger, history: HistoryLedger, entry: Entry[Any]) -> None:
    """Rules for an entry that is committed for the first time."""
    kind = entry.kind
    if kind is EntryKind.COMMAND:
        history.has_command = True
        ledger.counts["commands"] += 1
    elif kind is EntryKind.FOUNDED:
        history.founded = True
        ledger.counts["geneses"] += 1
        no_shared_store(ledger)
        dead_is_never_founded(ledger, history)
    elif kind is EntryKind.DISSOLVE:
        history.dissolved_into = entry.payload
        ledger.counts["dissolves" if entry.payload else "attempts given up"] += 1
        no_cycle(ledger, history)
    elif kind is EntryKind.CONFIG and entry.index > 1:
        ledger.counts["changes"] += 1
    ledger.require(
        history.dissolved_into is None or not history.has_command,
        Property.S4_DISSOLVED,
        f"{history.name} is dissolved and has committed a command",
    )


def no_shared_store(ledger: Ledger) -> None:
    """Two histories that are founded and not dissolved have no founder in common (S3)."""
    living = [
        (history, {founder[:2] for founder in history.attempt.founders.voters})
        for history in ledger.histories.values()
        if history.founded and history.dissolved_into is None and history.attempt is not None
    ]
    for (one, stores), (other, others) in combinations(living, 2):
        shared = stores & others
        ledger.require(
            not shared,
            Property.S3_SHARED_STORE,
            f"{one.name} and {other.name} are both founded by {len(shared)} stores",
        )


def no_cycle(ledger: Ledger, history: HistoryLedger) -> None:
    """Following where dissolved histories went never leads back (S4)."""
    seen, at = {history.id}, history
    while at.dissolved_into:
        ledger.require(
            at.dissolved_into not in seen, Property.S4_CYCLE, f"{at.name} is dissolved in a circle"
        )
        if at.dissolved_into in seen:
            return
        seen.add(at.dissolved_into)
        at = ledger.history(at.dissolved_into)
