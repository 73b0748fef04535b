"""What callers ask for, and what they are told.

A process numbers its requests from 1, as the real driver's processes do: an answer that was meant for an
earlier process must not be taken for an answer to a later one.
"""

from __future__ import annotations

from dataclasses import dataclass

from mosaik.consensus import (
    Accepted,
    Done,
    Input,
    Leave,
    Read,
    ReadReady,
    Refused,
    Submit,
    Transfer,
)
from mosaik.primitives.entry import EntryKind
from mosaik.testing.simulation.rules.ledger import Ledger
from mosaik.testing.simulation.rules.violation import Property
from tests.consensus.simulation.node import SimNode

__all__ = ["Workload"]

#: A command that its node has neither taken nor refused after so many virtual seconds hangs.
HANGS_AFTER = 30.0


@dataclass
class _Request:
    """One that is not answered yet, or whose commands are not decided yet."""

    node: SimNode
    incarnation: int
    history: bytes
    asked: float
    item: Input
    floor: int = 0
    accepted: Accepted | None = None


class Workload:
    """Every request that is under way, and every command that was acknowledged.

    Attributes:
        acknowledged: ``(history, index, payload)`` of what a caller was told is done.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.acknowledged: list[tuple[bytes, int, bytes]] = []
        self._commands = 1
        #: By node and incarnation, the last token; and by these three, the request.
        self._tokens: dict[tuple[str, int], int] = {}
        self._requests: dict[tuple[str, int, int], _Request] = {}
        #: Nodes whose own leave was confirmed since this was last emptied.
        self.gone: list[SimNode] = []

    def _token(self, node: SimNode) -> int:
        process = (node.name, node.incarnation)
        token = self._tokens[process] = self._tokens.get(process, 0) + 1
        return token

    def _ask(self, node: SimNode, token: int, item: Input, now: float) -> _Request:
        request = _Request(node, node.incarnation, node.history, now, item)
        self._requests[node.name, node.incarnation, token] = request
        return request

    def submit(self, node: SimNode, count: int, *named: bytes, now: float = 0.0) -> Submit:
        """Asks a node to take commands, each of which is like no other unless they are named."""
        token = self._token(node)
        self._commands += 1
        payloads = named or tuple(b"%d.%d" % (self._commands, number) for number in range(count))
        item = Submit(token, payloads)
        self._ask(node, token, item, now)
        return item

    def read(self, node: SimNode) -> Read:
        """Asks a node for a read; it must see whatever is committed anywhere by now."""
        token = self._token(node)
        item = Read(token)
        request = self._ask(node, token, item, 0.0)
        request.floor = len(self.ledger.history(node.history).chain) if node.history else 0
        return item

    def transfer(self, node: SimNode, peer: bytes | None = None) -> Transfer:
        """Asks a node to hand over."""
        token = self._token(node)
        item = Transfer(token, peer)
        self._ask(node, token, item, 0.0)
        return item

    def leave(self, node: SimNode, replica_of: bytes | None = None) -> Leave:
        """Asks a node to leave for good, or to have another removed."""
        token = self._token(node)
        item = Leave(token, replica_of=replica_of)
        self._ask(node, token, item, 0.0)
        return item

    def answered(self, node: SimNode, answer: Accepted | Refused | ReadReady | Done) -> None:
        """A node answered."""
        key = (node.name, node.incarnation, answer.token)
        request = self._requests.get(key)
        self.ledger.require(
            request is not None and request.accepted is None,
            Property.ANSWERED,
            f"{node.name} answers {answer.token}, which nobody asked or which was answered before",
        )
        assert request is not None
        if isinstance(answer, Accepted):
            request.accepted, request.history = answer, node.history
            return
        del self._requests[key]
        if isinstance(answer, ReadReady):
            self._read_ready(node, request, answer)
        elif isinstance(answer, Done) and request.item == Leave(answer.token):
            self.gone.append(node)

    def _read_ready(self, node: SimNode, read: _Request, ready: ReadReady) -> None:
        self.ledger.counts["reads"] += 1
        self.ledger.require(
            ready.index >= read.floor and (not read.history or read.history == node.history),
            Property.READ_LINEARIZABLE,
            f"{node.name} reads at {ready.index}; {read.floor} was committed when it was asked",
        )

    def nothing_hangs(self, now: float) -> None:
        """Every command that a living process was given some time ago was taken or refused.

        A read may wait for a message that was lost; the driver has a time limit for it.
        """
        for request in self._requests.values():
            alive = request.node.up and request.incarnation == request.node.incarnation
            old = isinstance(request.item, Submit) and request.asked < now - HANGS_AFTER
            self.ledger.require(
                not (alive and old and request.accepted is None),
                Property.ANSWERED,
                f"{request.node.name} has neither taken nor refused {request.item}",
            )

    def progressed(self, node: SimNode) -> None:
        """A node's commit index rose: some of its callers are told."""
        for key, request in list(self._requests.items()):
            accepted = request.accepted
            if request.node is not node or accepted is None:
                continue
            if request.incarnation != node.incarnation or request.history != node.history:
                del self._requests[key]
                continue
            if node.commit >= accepted.first + accepted.count - 1:
                del self._requests[key]
                assert isinstance(request.item, Submit)
                self._conclude(node, request.history, request.item, accepted)

    def _conclude(self, node: SimNode, history: bytes, submit: Submit, accepted: Accepted) -> None:
        chain = self.ledger.history(history).chain
        for offset, payload in enumerate(submit.payloads):
            entry = chain[accepted.first + offset - 1]
            if entry.term != accepted.term:
                # Certainly not done: another leader's entry took its place.
                continue
            self.ledger.require(
                entry.kind is EntryKind.COMMAND and entry.payload == payload,
                Property.ACKNOWLEDGED,
                f"{node.name} acknowledges {payload!r}; {entry} is committed",
            )
            self.acknowledged.append((history, entry.index, payload))
            self.ledger.counts["acknowledged"] += 1
