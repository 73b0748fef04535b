"""A whole group under faults, as one function of its seed.

Theory of operation
-------------------
Everything that happens is an event in one heap, ordered by virtual time and then by the order in which
it was made; every choice comes from one generator that is seeded once. Nodes are real cores
(`mosaik.consensus.Consensus`) with a simulated disk, simulated links and a driver that does what the
real driver does: it carries out effects and reports what became of them.

After each step and each completed write `watch` checks the rules. When the scenario's time is up, the
world heals, and within a bounded virtual time the group must be live again (`settle`).
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import TextIO
from zlib import crc32

from mosaik.consensus import (
    Bonded,
    Effects,
    Fetch,
    Fetched,
    Input,
    Outgoing,
    Persisted,
    Received,
    Unbonded,
    View,
    Write,
)
from mosaik.testing.simulation.rules import watch
from mosaik.testing.simulation.rules.ledger import Ledger
from mosaik.testing.simulation.rules.store import PlainStore
from mosaik.testing.simulation.rules.violation import Property, Violation
from tests.consensus.simulation.faults import Faults
from tests.consensus.simulation.network import SimNetwork
from tests.consensus.simulation.node import SimNode
from tests.consensus.simulation.scenario import NodePlan, Scenario, draw
from tests.consensus.simulation.settle import Settling
from tests.consensus.simulation.show import Names, Show
from tests.consensus.simulation.workload import Workload

__all__ = ["Simulation"]

#: Virtual seconds between attempts to bond those who are not.
DIAL_EVERY = 0.25


class Simulation:
    """One run.

    Args:
        seed: decides everything.
        scenario: what to run; drawn from the seed when absent.
        ignored: rules that are not checked.
        trace: where to write every event.
    """

    def __init__(
        self,
        seed: int,
        scenario: Scenario | None = None,
        *,
        ignored: frozenset[Property] = frozenset(),
        trace: TextIO | None = None,
    ) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.scenario = scenario or draw(self.chance)
        self.now = 0.0
        self.hash = 0
        self.steps = 0
        self.ledger = Ledger(ignored)
        self.workload = Workload(self.ledger)
        self.network = SimNetwork(self.scenario.quality, self.chance)
        self.nodes: dict[bytes, SimNode] = {}
        self.faults = Faults(self)
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._trace = trace
        self.show = Show(Names())

    # -- running ------------------------------------------------------------------------------------

    def run(self) -> Simulation:
        """Runs to the end.

        Raises:
            Violation: a rule was broken, or the group did not come back to life.
        """
        self.storm()
        Settling(self).run()
        return self

    def storm(self) -> None:
        """Runs the scenario, without asking afterwards whether the group comes back to life."""
        self._begin()
        self.run_until(self.scenario.seconds)

    def _begin(self) -> None:
        for plan in self.scenario.nodes:
            self.add(plan)
        peers = list(self.nodes)
        hidden = [(peers[one], peers[other]) for one, other in self.scenario.hidden]
        both_ways = hidden + [(other, one) for one, other in hidden]
        self.network.cut.update(both_ways)
        self.at(self.scenario.hidden_until, partial(self.network.mend, both_ways))
        self.at(0.01, self._dial)
        self.faults.begin()

    def run_until(self, time: float) -> None:
        """Handles every event up to a virtual time."""
        heap = self._heap
        while heap and heap[0][0] <= time:
            self.now, _, event = heapq.heappop(heap)
            event()
        self.now = time

    def at(self, time: float, event: Callable[[], None]) -> None:
        """Has something happen at a virtual time."""
        self._order += 1
        heapq.heappush(self._heap, (max(time, self.now), self._order, event))

    def after(self, seconds: float, event: Callable[[], None]) -> None:
        """Has something happen so many virtual seconds from now."""
        self.at(self.now + seconds, event)

    def note(self, line: str) -> None:
        """Takes an event into the trace and its hash."""
        self.hash = crc32(line.encode(), self.hash)
        if self._trace is not None:
            print(f"{self.now:9.4f} {line}", file=self._trace)

    # -- nodes --------------------------------------------------------------------------------------

    def add(self, plan: NodePlan) -> SimNode:
        """Makes a node and has it started when its plan says."""
        number = len(self.nodes) + 1
        # Ranks go by peer id, so that the order of ids must not be the order of numbers.
        peer = bytes([self.chance.randrange(1, 250), number]) * 16
        node = SimNode(
            f"n{number}", peer, self.scenario.parameters(plan), PlainStore(self.new_store_id())
        )
        self.nodes[peer] = node
        self.show.names.peers[peer] = node.name
        self.after(plan.joins_at, lambda: self.start(node))
        return node

    def new_store_id(self) -> bytes:
        return self.chance.randbytes(16)

    def start(self, node: SimNode) -> None:
        """Starts a node that is down."""
        if node.up or node.left:
            return
        if node.incarnation:
            self.ledger.counts["restarts"] += 1
            if node.parameters.volatile:
                node.store = PlainStore(self.new_store_id())
        self.note(f"{node.name} starts")
        node.start(self.now, self.chance)
        self.step(node, ())

    def crash(self, node: SimNode, *, write_lands: bool | None = None) -> None:
        """Ends a process: what was not written is gone, and the write in flight lands or not."""
        if not node.up:
            return
        writing = node.stop()
        lands = self.chance.random() < 0.5 if write_lands is None else write_lands
        self.note(f"{node.name} crashes{', its write lands' if writing and lands else ''}")
        if writing is not None and lands:
            self.commit(node, writing)
        died = self.chance.random() < 0.7
        for other in self.nodes.values():
            if other.up and node.peer in other.bonds:
                delay = self.chance.random() * (0.02 if died else 1.5)
                self.after(delay, partial(self.unbond, other, node.peer, died))

    # -- stepping -----------------------------------------------------------------------------------

    def step(self, node: SimNode, inputs: Sequence[Input]) -> None:
        """Gives a node inputs and carries out what it wants."""
        if not node.up:
            return
        if node.paused:
            node.queued.extend(inputs)
            return
        core = node.core
        assert core is not None
        self.steps += 1
        before = core.view
        try:
            effects = node.step(inputs, self.now)
        except Violation:
            raise
        except Exception as error:
            raise Violation(Property.NO_BUG_REPORTED, f"{node.name} raises {error!r}") from error
        committed = node.commit
        view = watch.after_step(self.ledger, node, effects, before)
        self.note(
            f"{node.name} {view.role} t{view.term} i{view.last} c{view.commit} "
            f"#{node.log.last.checksum:08x} {len(effects.send)}"
        )
        self.observe(node, inputs, before, effects)
        self._carry_out(node, effects)
        if node.commit > committed:
            self.workload.progressed(node)

    def _carry_out(self, node: SimNode, effects: Effects) -> None:
        if effects.write is not None:
            self.write(node, effects.write)
        for outgoing in effects.send:
            self.send(node, outgoing)
        for fetch in effects.fetch:
            self._fetch(node, fetch)
        for answer in effects.answers:
            self.workload.answered(node, answer)
        while self.workload.gone:
            self.faults.leave_for_good(self.workload.gone.pop())
        self._wake(node, effects.deadline)

    def _wake(self, node: SimNode, deadline: float) -> None:
        """Steps a node at its deadline; a deadline that moved later is looked at when the old one
        comes, so that there are few events."""
        node.deadline = deadline
        if deadline >= node.wake_at or deadline == float("inf"):
            return
        node.wake_at = deadline
        incarnation = node.incarnation

        def wake() -> None:
            if node.incarnation != incarnation or not node.up or node.wake_at > self.now:
                return
            node.wake_at = float("inf")
            if node.deadline <= self.now:
                self.step(node, ())
            else:
                self._wake(node, node.deadline)

        self.at(deadline, wake)

    # -- the disk -----------------------------------------------------------------------------------

    def write(self, node: SimNode, write: Write) -> None:
        node.writing = write
        low, high = node.disk_seconds
        incarnation = node.incarnation

        def done() -> None:
            if node.incarnation == incarnation and node.writing is write:
                node.writing = None
                self.commit(node, write)
                self.step(node, (Persisted(write.sequence),))

        self.after(low + (high - low) * self.chance.random(), done)

    def commit(self, node: SimNode, write: Write) -> None:
        watch.before_write(self.ledger, node, write.batch)
        node.store.apply(write.batch)
        watch.after_write(self.ledger, node, write.batch)

    def _fetch(self, node: SimNode, fetch: Fetch) -> None:
        incarnation = node.incarnation

        def done() -> None:
            if node.incarnation != incarnation or not node.up:
                return
            found = node.store.fetch(fetch.first, fetch.last, fetch.limit)
            self.step(node, (Fetched(fetch.first, found),))

        self.after(0.001 + 0.01 * self.chance.random(), done)

    # -- links --------------------------------------------------------------------------------------

    def send(self, node: SimNode, outgoing: Outgoing) -> None:
        receiver = self.nodes.get(outgoing.peer)
        if receiver is None or outgoing.peer not in node.bonds:
            return
        for delay in self.network.delays(node.peer, outgoing.peer):
            received = (Received(outgoing.envelope),)
            self.after(delay, partial(self._deliver, node, receiver, received))

    def _deliver(self, sender: SimNode, receiver: SimNode, received: tuple[Received]) -> None:
        if receiver.up and sender.peer in receiver.bonds:
            self.step(receiver, received)

    def _dial(self) -> None:
        """Bonds everybody who can be reached and is not bonded, at both ends."""
        self.after(DIAL_EVERY, self._dial)
        nodes = list(self.nodes.values())
        for at, one in enumerate(nodes):
            for other in nodes[at + 1 :]:
                if not (one.up and other.up and self.network.whole(one.peer, other.peer)):
                    continue
                if other.peer in one.bonds and one.peer in other.bonds:
                    continue
                if one.paused or other.paused:
                    continue
                self.bond(one, other)
                self.bond(other, one)

    def bond(self, node: SimNode, other: SimNode) -> None:
        """One end of a new bond; a stale one is given up first."""
        self.unbond(node, other.peer, died=True)
        node.bonds.add(other.peer)
        self.step(node, (Bonded(other.peer),))

    def unbond(self, node: SimNode, peer: bytes, died: bool) -> None:
        """One end of a bond notices that it is gone."""
        if node.up and peer in node.bonds:
            node.bonds.discard(peer)
            self.step(node, (Unbonded(peer, died),))

    # -- explaining ---------------------------------------------------------------------------------

    def observe(
        self, node: SimNode, inputs: Sequence[Input], before: View, effects: Effects
    ) -> None:
        """Sees every step; here, for the trace."""
        del before
        if self._trace is None:
            return
        show, out = self.show, self._trace
        lines = [f"<- {self._input(item)}" for item in inputs]
        lines += [
            f"-> {self.show.names.peers[outgoing.peer]} {show.body(outgoing.envelope.body)}"
            for outgoing in effects.send
        ]
        if effects.write is not None:
            lines.append(f"writes {show.batch(effects.write.batch)}")
        lines += [f"reports {event.notice}: {event.detail}" for event in effects.events]
        lines += [f"answers {answer.token}: {show.answer(answer)}" for answer in effects.answers]
        for line in lines:
            print(f"            {node.name} {line}", file=out)

    def _input(self, item: Input) -> str:
        if isinstance(item, Received):
            sender = self.show.names.replica(item.envelope.sender)
            return f"{sender} {self.show.body(item.envelope.body)}"
        return type(item).__name__
