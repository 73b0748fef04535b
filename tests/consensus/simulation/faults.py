"""What goes wrong, when, and to whom."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from mosaik.consensus import Input
from mosaik.testing.simulation.rules.store import PlainStore
from tests.consensus.simulation.node import SimNode
from tests.consensus.simulation.scenario import NodePlan

if TYPE_CHECKING:
    from tests.consensus.simulation.simulation import Simulation

__all__ = ["Faults"]

ORDINARY_DISK: Final = (0.001, 0.01)
#: When faults hit the genesis, seconds.
EARLY: Final = (0.4, 2.0)
EARLY_FAULTS: Final = (
    "crash",
    "partition",
    "break link",
    "deafen",
    "slow disk",
    "wipe",
    "newcomer",
)


class Faults:
    """Draws faults and callers' requests until it is stopped, and undoes what it did."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.chance = simulation.chance
        self.active = True
        self._newcomers = 0
        self._actions: dict[str, Callable[[], None]] = {
            "crash": lambda: self._crash(self._any()),
            "crash leader": lambda: self._crash(self._leader()),
            "partition": self._partition,
            "isolate leader": self._isolate_leader,
            "deafen": self._deafen,
            "break link": self._break_link,
            "pause": lambda: self._pause(self._any()),
            "pause leader": lambda: self._pause(self._leader()),
            "slow disk": self._slow_disk,
            "poison": self._poison,
            "wipe": self._wipe,
            "damage": self._damage,
            "transfer": self._transfer,
            "remove": self._remove,
            "leave": self._leave,
            "newcomer": self._newcomer,
        }

    def begin(self) -> None:
        """Starts the faults and the load."""
        scenario = self.simulation.scenario
        if scenario.fault_every:
            self._schedule(scenario.fault_every, self._fault)
        if scenario.early_fault_every:
            self._early_fault()
        if scenario.submit_every:
            self.simulation.at(
                scenario.submit_from, lambda: self._schedule(scenario.submit_every, self._request)
            )

    def stop(self) -> None:
        """No more faults; everything that is broken is mended."""
        self.active = False
        self.simulation.network.heal()
        for node in self.simulation.nodes.values():
            node.disk_seconds = ORDINARY_DISK
            self._resume(node)
            self.simulation.start(node)

    def _schedule(self, mean: float, action: Callable[[], None]) -> None:
        def run() -> None:
            if self.active:
                action()
                self._schedule(mean, action)

        self.simulation.after(self.chance.expovariate(1 / mean), run)

    def _fault(self) -> None:
        if self.simulation.network.cut and self.chance.random() < 0.6:
            # Fault upon fault only stands still: those who are cut off need time to diverge.
            return
        weights = self.simulation.scenario.faults
        name = self.chance.choices(list(weights), list(weights.values()))[0]
        self.simulation.note(f"fault: {name}")
        self._actions[name]()

    def _early_fault(self) -> None:
        """Histories begin half a second after the start: what goes wrong then hits their genesis."""
        if self.simulation.now > EARLY[1]:
            return
        if self.simulation.now > EARLY[0]:
            name = self.chance.choice(EARLY_FAULTS)
            self.simulation.note(f"fault: {name}")
            self._actions[name]()
        mean = self.simulation.scenario.early_fault_every
        self.simulation.after(self.chance.expovariate(1 / mean), self._early_fault)

    def _request(self) -> None:
        node = self._leader() if self.chance.random() < 0.8 else self._any()
        if node is None:
            return
        item: Input = (
            self.simulation.workload.read(node)
            if self.chance.random() < 0.25
            else self.simulation.workload.submit(
                node, self.chance.choice((1, 1, 2, 5)), now=self.simulation.now
            )
        )
        self.simulation.step(node, (item,))

    # -- whom ---------------------------------------------------------------------------------------

    def _nodes(self) -> list[SimNode]:
        return list(self.simulation.nodes.values())

    def _running(self) -> list[SimNode]:
        return [node for node in self.simulation.nodes.values() if node.up]

    def _any(self) -> SimNode | None:
        running = self._running()
        return self.chance.choice(running) if running else None

    def _leader(self) -> SimNode | None:
        leading = [n for n in self._running() if n.core is not None and n.core.view.leading]
        return self.chance.choice(leading) if leading else self._any()

    # -- what ---------------------------------------------------------------------------------------

    def _while(self, low: float, high: float, undo: Callable[[], None]) -> None:
        def run() -> None:
            if self.active:
                undo()

        self.simulation.after(self.chance.uniform(low, high), run)

    def _crash(self, node: SimNode | None) -> None:
        if node is not None:
            self.simulation.crash(node)
            self._while(0.05, 3.0, lambda: self.simulation.start(node))

    def _poison(self) -> None:
        """A failed write: the replica is rebuilt from what its store holds."""
        node = self._any()
        if node is not None:
            self.simulation.crash(node)
            self._while(0.0, 0.05, lambda: self.simulation.start(node))

    def _partition(self) -> None:
        peers = list(self.simulation.nodes)
        if len(peers) > 1:
            inside = set(self.chance.sample(peers, self.chance.randrange(1, len(peers))))
            self._cut_off(inside)

    def _isolate_leader(self) -> None:
        """A leader cut off goes on taking commands, which the next one's will replace."""
        node = self._leader()
        if node is None or node.core is None or not node.core.view.leading:
            # There will be one soon.
            self._while(0.1, 1.0, self._isolate_leader)
            return
        self._cut_off({node.peer}, 2.0, 3.5)
        self.simulation.step(node, (self.simulation.workload.submit(node, 2),))

    def _cut_off(self, inside: set[bytes], low: float = 0.3, high: float = 4.0) -> None:
        network = self.simulation.network
        outside = set(self.simulation.nodes) - inside
        cut = network.isolate(inside, outside)
        self._notice(inside, outside)
        self._while(low, high, lambda: network.mend(cut))

    def _notice(self, inside: set[bytes], outside: set[bytes]) -> None:
        """Some partitions last long enough to be noticed, at each end at a time of its own."""
        if self.chance.random() < 0.5:
            return
        for a in sorted(inside):
            for b in sorted(outside):
                for here, there in ((a, b), (b, a)):
                    node = self.simulation.nodes[here]
                    delay = self.chance.uniform(0.2, 2.0)
                    self.simulation.after(delay, partial(self._timed_out, node, there))

    def _timed_out(self, node: SimNode, peer: bytes) -> None:
        if not self.simulation.network.whole(node.peer, peer):
            self.simulation.unbond(node, peer, died=False)

    def _deafen(self) -> None:
        """A node speaks, and does not hear; or hears, and is not heard."""
        node = self._any()
        if node is None:
            return
        network = self.simulation.network
        hears = self.chance.random() < 0.5
        others = [other for other in self.simulation.nodes if other != node.peer]
        cut = [(node.peer, other) if hears else (other, node.peer) for other in others]
        network.cut.update(cut)
        self._while(0.3, 3.0, lambda: network.mend(cut))

    def _break_link(self) -> None:
        running = self._running()
        if len(running) > 1:
            one, other = self.chance.sample(running, 2)
            died = self.chance.random() < 0.5
            self.simulation.unbond(one, other.peer, died)
            self.simulation.unbond(other, one.peer, died)

    def _pause(self, node: SimNode | None) -> None:
        if node is not None and not node.paused:
            node.paused = True
            self._while(0.2, 3.0, lambda: self._resume(node))

    def _resume(self, node: SimNode) -> None:
        if node.paused:
            node.paused = False
            queued, node.queued = node.queued, []
            self.simulation.note(f"{node.name} goes on")
            self.simulation.step(node, queued)

    def _slow_disk(self) -> None:
        """A slow disk, or a full one on which a write succeeds only when there is room again."""
        node = self._any()
        if node is not None:
            node.disk_seconds = (0.1, self.chance.uniform(0.2, 2.0))

            def recover() -> None:
                node.disk_seconds = ORDINARY_DISK

            self._while(0.5, 3.0, recover)

    def _wipe(self) -> None:
        """A disk is lost. The peer returns with an empty one, as somebody new."""
        node = self._any()
        if node is not None:
            self.simulation.crash(node, write_lands=False)
            node.store = PlainStore(self.simulation.new_store_id())
            self._while(0.05, 2.0, lambda: self.simulation.start(node))

    def _damage(self) -> None:
        """The end of a disk cannot be read any more; of one disk at a time, and not the only voter's,
        since then nobody could have the acknowledged entries still."""
        node = self._any()
        if node is None or node.core is None or any(n.suspect for n in self._nodes()):
            return
        shared = len(node.core.view.configuration.voters) > 1
        self.simulation.crash(node)
        if shared and node.store.last > 1:
            lost = self.chance.randrange(1, min(5, node.store.last))
            node.store.damage(node.store.last - lost + 1)
        self._while(0.05, 2.0, lambda: self.simulation.start(node))

    # -- what callers ask for now and then ----------------------------------------------------------

    def _transfer(self) -> None:
        node = self._leader()
        if node is not None:
            peers = [None, *self.simulation.nodes]
            transfer = self.simulation.workload.transfer(node, self.chance.choice(peers))
            self.simulation.step(node, (transfer,))

    def _remove(self) -> None:
        node, other = self._any(), self._any()
        if node is not None and other is not None and node is not other:
            self.simulation.step(node, (self.simulation.workload.leave(node, other.peer),))

    def _leave(self) -> None:
        node = self._any()
        if node is not None:
            self.simulation.step(node, (self.simulation.workload.leave(node),))

    def leave_for_good(self, node: SimNode) -> None:
        """A node was told that it is no member any more: its store is retired. It may return, as
        somebody new."""
        self.simulation.note(f"{node.name} has left")
        self.simulation.ledger.counts["left"] += 1
        self.simulation.crash(node, write_lands=True)
        node.store = PlainStore(self.simulation.new_store_id())
        if self.active and self.chance.random() < 0.7:
            self._while(0.5, 3.0, lambda: self.simulation.start(node))
        else:
            node.left = True

    def _newcomer(self) -> None:
        if self._newcomers < self.simulation.scenario.newcomers:
            self._newcomers += 1
            volatile = self.chance.random() < 0.2
            self.simulation.add(NodePlan(volatile=volatile))
