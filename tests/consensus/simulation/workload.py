"""What callers ask for, and what they are told."""

from __future__ import annotations

from dataclasses import dataclass

from mosaik.consensus import Accepted, Done, Leave, Read, ReadReady, Refused, Submit, Transfer
from mosaik.primitives.entry import EntryKind
from tests.consensus.simulation.ledger import Ledger
from tests.consensus.simulation.node import SimNode
from tests.consensus.simulation.violation import Property

__all__ = ["Workload"]


@dataclass
class _Pending:
    node: SimNode
    incarnation: int
    history: bytes
    payloads: tuple[bytes, ...]
    accepted: Accepted | None = None


@dataclass
class _Read:
    node: SimNode
    incarnation: int
    history: bytes
    floor: int


class Workload:
    """Every request that is under way, and every command that was acknowledged.

    Attributes:
        acknowledged: ``(history, index, payload)`` of what a caller was told is done.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.acknowledged: list[tuple[bytes, int, bytes]] = []
        self._next = 1
        self._pending: dict[int, _Pending] = {}
        self._reads: dict[int, _Read] = {}
        self._leaving: dict[int, SimNode] = {}
        #: Nodes whose own leave was confirmed since this was last emptied.
        self.gone: list[SimNode] = []

    def _token(self) -> int:
        self._next += 1
        return self._next

    def submit(self, node: SimNode, count: int, *named: bytes) -> Submit:
        """Asks a node to take commands, each of which is like no other unless they are named."""
        token = self._token()
        payloads = named or tuple(b"%d.%d" % (token, number) for number in range(count))
        self._pending[token] = _Pending(node, node.incarnation, node.history, payloads)
        return Submit(token, payloads)

    def read(self, node: SimNode) -> Read:
        """Asks a node for a read; it must see whatever is committed anywhere by now."""
        token = self._token()
        floor = len(self.ledger.history(node.history).chain) if node.history else 0
        self._reads[token] = _Read(node, node.incarnation, node.history, floor)
        return Read(token)

    def transfer(self, peer: bytes | None = None) -> Transfer:
        """Asks a node to hand over."""
        return Transfer(self._token(), peer)

    def leave(self, node: SimNode) -> Leave:
        """Asks a node to leave for good."""
        token = self._token()
        self._leaving[token] = node
        return Leave(token)

    def remove(self, peer: bytes) -> Leave:
        """Asks a node to have another removed."""
        return Leave(self._token(), replica_of=peer)

    def answered(self, node: SimNode, answer: Accepted | Refused | ReadReady | Done) -> None:
        """A node answered."""
        if isinstance(answer, Accepted):
            pending = self._pending[answer.token]
            pending.accepted, pending.history = answer, node.history
        elif isinstance(answer, ReadReady):
            self._read_ready(node, answer)
        elif isinstance(answer, Refused):
            self._pending.pop(answer.token, None)
            self._reads.pop(answer.token, None)
            self._leaving.pop(answer.token, None)
        else:
            leaving = self._leaving.pop(answer.token, None)
            if leaving is not None:
                self.gone.append(leaving)

    def _read_ready(self, node: SimNode, ready: ReadReady) -> None:
        read = self._reads.pop(ready.token, None)
        if read is None:
            return
        self.ledger.counts["reads"] += 1
        self.ledger.require(
            ready.index >= read.floor and (not read.history or read.history == node.history),
            Property.READ_LINEARIZABLE,
            f"{node.name} reads at {ready.index}; {read.floor} was committed when it was asked",
        )

    def progressed(self, node: SimNode) -> None:
        """A node's commit index rose: some of its callers are told."""
        for token, pending in list(self._pending.items()):
            accepted = pending.accepted
            if pending.node is not node or accepted is None:
                continue
            if pending.incarnation != node.incarnation or pending.history != node.history:
                del self._pending[token]
                continue
            if node.commit >= accepted.first + accepted.count - 1:
                del self._pending[token]
                self._conclude(node, pending, accepted)

    def _conclude(self, node: SimNode, pending: _Pending, accepted: Accepted) -> None:
        chain = self.ledger.history(pending.history).chain
        for offset, payload in enumerate(pending.payloads):
            entry = chain[accepted.first + offset - 1]
            if entry.term != accepted.term:
                # Certainly not done: another leader's entry took its place.
                continue
            self.ledger.require(
                entry.kind is EntryKind.COMMAND and entry.payload == payload,
                Property.ACKNOWLEDGED,
                f"{node.name} acknowledges {payload!r}; {entry} is committed",
            )
            self.acknowledged.append((pending.history, entry.index, payload))
            self.ledger.counts["acknowledged"] += 1
