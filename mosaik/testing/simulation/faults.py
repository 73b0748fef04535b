"""What goes wrong, when, and to whom. What destroys data keeps within the group's means."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from mosaik.machines import Map
from mosaik.testing.simulation.budget import Budget
from mosaik.testing.simulation.disk import groups_on
from mosaik.testing.simulation.network import PERFECT
from mosaik.testing.simulation.node import ORDINARY_DISK, SimNode

if TYPE_CHECKING:
    from mosaik.testing.simulation.simulation import Simulation

__all__ = ["Faults"]


class Faults:
    """Draws faults until it is stopped, and undoes what it did.

    Attributes:
        count: how many there were.
        active: whether there are more to come.
    """

    def __init__(self, simulation: Simulation) -> None:
        self.simulation: Final = simulation
        self.active = False
        self.count = 0
        self._chance = simulation.chance
        self._budget: Final = Budget(simulation)
        operator = simulation.operator
        self._actions: Final[dict[str, Callable[[], None]]] = {
            "crash": lambda: self._crash(self.simulation.any_node()),
            "crash leader": lambda: self._crash(self.simulation.any_leader()),
            "torn write": self._torn_write,
            "partition": self._partition,
            "isolate leader": self._isolate_leader,
            "one way": self._one_way,
            "slow wire": self._slow_wire,
            "break link": self._break_link,
            "pause": lambda: self._pause(self.simulation.any_node()),
            "pause leader": lambda: self._pause(self.simulation.any_leader()),
            "drift": self._drift,
            "jump": self._jump,
            "slow disk": self._slow_disk,
            "failed sync": self._failed_sync,
            "full disk": self._full_disk,
            "flipped bit": self._flipped_bit,
            "rotten tail": self._rotten_tail,
            "wipe": self._wipe,
            "roll back": self._roll_back,
            "transfer": operator.transfer,
            "leave": operator.leave,
            "remove": operator.remove,
            "newcomer": operator.newcomer,
        }

    # -- when ---------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Starts the faults."""
        self.active = True
        for name, mean in self.simulation.scenario.faults.items():
            self._schedule(name, mean)

    def _schedule(self, name: str, mean: float) -> None:
        def strike() -> None:
            if self.active:
                self.count += 1
                self.simulation.note(f"fault: {name}")
                self.simulation.ledger.counts[f"fault: {name}"] += 1
                self._actions[name]()
                self._schedule(name, mean)

        self.simulation.scheduler.after(1.0 + self._chance.expovariate(1 / mean), strike)

    def _while(self, low: float, high: float, undo: Callable[[], None]) -> None:
        def run() -> None:
            if self.active:
                undo()

        self.simulation.scheduler.after(self._chance.uniform(low, high), run)

    def stop(self) -> None:
        """No more faults; everything that is broken is mended, and every process runs."""
        self.active = False
        simulation = self.simulation
        simulation.note("the world heals")
        simulation.wires.quality = PERFECT
        simulation.wires.slow.clear()
        simulation.wires.heal()
        for node in simulation.nodes:
            node.disk_seconds = ORDINARY_DISK
            node.disk.fail, node.disk.full = None, False
            if node.loop is not None:
                node.loop.drift(1.0)
                if node.loop.frozen:
                    node.loop.thaw()
            if not node.up:
                node.start()

    # -- processes ----------------------------------------------------------------------------------

    def _restart_soon(self, node: SimNode) -> None:
        self._while(0.05, 3.0, node.start)

    def _crash(self, node: SimNode | None) -> None:
        if node is not None:
            node.crash(silent=self._chance.random() < 0.3)
            self._restart_soon(node)

    def _pause(self, node: SimNode | None) -> None:
        loop = node.loop if node is not None else None
        if loop is not None and not loop.frozen:
            loop.freeze()
            self._while(0.2, 4.0, lambda: None if loop.dead else loop.thaw())

    def _drift(self) -> None:
        node = self.simulation.any_node()
        if node is not None and node.loop is not None:
            node.loop.drift(self._chance.uniform(0.8, 1.25))

    def _jump(self) -> None:
        """The calendar clock is set: by a minute, or by a year."""
        node = self.simulation.any_node()
        if node is not None and node.loop is not None:
            by = self._chance.choice((1, -1)) * self._chance.choice((1_000, 60_000, 31_536_000_000))
            node.loop.wall_ms += by

    # -- wires --------------------------------------------------------------------------------------

    def _partition(self) -> None:
        peers = [node.peer for node in self.simulation.nodes]
        inside = set(self._chance.sample(peers, self._chance.randrange(1, len(peers))))
        self._cut(inside, 0.3, 4.0)

    def _isolate_leader(self) -> None:
        """A leader that is cut off goes on taking commands, which the next one's will replace."""
        node = self.simulation.any_leader()
        if node is None:
            self._while(0.1, 1.0, self._isolate_leader)
            return
        self._cut({node.peer}, 1.5, 4.0)
        for _ in range(2):
            if node.serving:
                self.simulation.clients.ask(
                    -1, node, Map.Insert("cut off", self._chance.getrandbits(30))
                )

    def _cut(self, inside: set[bytes], low: float, high: float, *, one_way: bool = False) -> None:
        wires = self.simulation.wires
        outside = [node.peer for node in self.simulation.nodes if node.peer not in inside]
        wires.sever(sorted(inside), outside, one_way=one_way)
        self._while(low, high, wires.heal)

    def _one_way(self) -> None:
        """A node speaks and is not heard, or hears nothing."""
        node = self.simulation.any_node()
        if node is None:
            return
        others = {other.peer for other in self.simulation.nodes if other is not node}
        inside = {node.peer} if self._chance.random() < 0.5 else others
        self._cut(inside, 0.3, 3.0, one_way=True)

    def _slow_wire(self) -> None:
        node = self.simulation.any_node()
        if node is not None:
            slow = self.simulation.wires.slow
            slow[node.peer] = self._chance.uniform(0.02, 0.3)

            def recover() -> None:
                slow.pop(node.peer, None)

            self._while(0.5, 4.0, recover)

    def _break_link(self) -> None:
        links = [link for link in self.simulation.wires.links if link.other is not None]
        if not links:
            return
        link = self._chance.choice(links)
        other = link.other
        for end in (link, other):
            if end is not None:
                delay = self._chance.random() * 0.5
                self.simulation.scheduler.after(delay, partial(end.reset, died=False))

    # -- disks --------------------------------------------------------------------------------------

    def _slow_disk(self) -> None:
        node = self.simulation.any_node()
        if node is not None:
            node.disk_seconds = (0.05, self._chance.uniform(0.1, 1.0))

            def recover() -> None:
                node.disk_seconds = ORDINARY_DISK

            self._while(0.5, 3.0, recover)

    def _failed_sync(self) -> None:
        """The next commit fails; what it was for is on the disk, or is not."""
        node = self.simulation.any_node()
        if node is None:
            return
        disk = node.disk

        def fail() -> bool:
            disk.fail = None
            return self._chance.random() < 0.5

        disk.fail = fail

    def _full_disk(self) -> None:
        node = self.simulation.any_node()
        if node is not None:
            node.disk.full = True

            def make_room() -> None:
                node.disk.full = False

            self._while(0.3, 3.0, make_room)

    def _torn_write(self, attempts: int = 100) -> None:
        """The machine dies while it writes, and the end of what it wrote is garbage."""
        candidates = [
            node
            for node in self.simulation.running()
            if node.worker is not None and node.worker.writing and self._budget.may_lose(node)
        ]
        if not candidates:
            if attempts:
                again = partial(self._torn_write, attempts - 1)
                self.simulation.scheduler.after(0.007, lambda: again() if self.active else None)
            return
        node = self._chance.choice(candidates)
        last = node.store.last
        node.crash(lands=True, silent=self._chance.random() < 0.5)
        if node.store.last > last:
            self._spoil(node, tail=True)
        self._restart_soon(node)

    def _rotten_tail(self) -> None:
        """The newest entries of a closed store rot; some were acknowledged."""
        node = self._losable()
        if node is not None:
            node.crash()
            self._spoil(node, tail=True)
            self._restart_soon(node)

    def _flipped_bit(self) -> None:
        """One bit of an acknowledged entry flips."""
        node = self._losable()
        if node is not None:
            node.crash()
            self._spoil(node, tail=False)
            self._restart_soon(node)

    def _spoil(self, node: SimNode, *, tail: bool) -> None:
        disk = node.disk
        for log in groups_on(disk.rows):
            firsts = disk.rows.firsts(log)
            if not firsts:
                continue
            first = firsts[-1] if tail else self._chance.choice(firsts)
            [(_, blob), *_] = disk.rows.rows(log, first, first, 1)
            at = (
                len(blob) - 1 - self._chance.randrange(4)
                if tail
                else self._chance.randrange(len(blob))
            )
            flipped = bytes([blob[at] ^ (1 << self._chance.randrange(8))])
            disk.rows.spoil(log, first, blob[:at] + flipped + blob[at + 1 :])
            disk.tampered = True

    def _wipe(self) -> None:
        """A disk is lost. The node returns with an empty one, as somebody new."""
        node = self._losable()
        if node is not None:
            node.crash()
            node.disk.wipe()
            self._restart_soon(node)

    def _roll_back(self) -> None:
        """A disk is put back to where it was some seconds ago."""
        node = self.simulation.any_node()
        if node is None:
            return
        image = node.disk.image()

        def back() -> None:
            if not node.up or image.contents is None or node.disk.contents is None:
                return
            then, now = image.contents.hard_state, node.disk.contents.hard_state
            same = (then.store, then.life, then.history, then.term, then.voted_for) == (
                now.store,
                now.life,
                now.history,
                now.term,
                now.voted_for,
            )
            if same and self._budget.may_lose(node) and self._budget.held_by_others(node):
                self.simulation.ledger.counts["disks rolled back"] += 1
                node.crash(lands=False)
                node.disk.roll_back(image)
                self._restart_soon(node)

        self._while(0.5, 3.0, back)

    def _losable(self) -> SimNode | None:
        candidates = [node for node in self.simulation.running() if self._budget.may_lose(node)]
        return self._chance.choice(candidates) if candidates else None
