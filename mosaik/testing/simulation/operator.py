"""Whoever runs the nodes: gives up a store that is spoilt, starts a node again, and asks for changes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from functools import partial
from typing import TYPE_CHECKING, Final

from mosaik.primitives.errors import CorruptEntry, MosaikError, OutcomeUnknown
from mosaik.testing.simulation.budget import Budget
from mosaik.testing.simulation.node import SimNode

if TYPE_CHECKING:
    from mosaik.testing.simulation.simulation import Simulation

__all__ = ["Operator"]

#: Virtual seconds for which a removal may be under way after somebody asked for it.
_UNDER_WAY: Final = 10.0


class Operator:
    """Does what a replica's last words tell people to do, and asks for changes now and then."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation: Final = simulation
        self._budget: Final = Budget(simulation)
        self._chance: Final = simulation.chance
        self._newcomers = 0
        #: Until when a removal may still be under way, by peer.
        self._leaving: dict[bytes, float] = {}

    def ended(self, node: SimNode, cause: BaseException | None) -> None:
        """The group ended on a node: an operator looks at the reason and sets it right."""
        simulation = self.simulation
        simulation.ledger.counts[f"ended: {type(cause).__name__}"] += 1
        if cause is None:
            return  # it left, which whoever asked for it handles
        if isinstance(cause, CorruptEntry) or node.disk.contents is None:
            # What the message says: give the store up, and join as a new replica.
            node.crash(lands=False)
            node.disk.wipe()
        else:
            node.crash(lands=False)
        simulation.scheduler.after(self._chance.uniform(0.1, 2.0), node.start)

    def quarantined(self, node: SimNode) -> None:
        """A node's replica found that its disk was rolled back: an operator does what it says."""
        again = partial(self._start_over, node)
        self.simulation.scheduler.after(self._chance.uniform(0.5, 2.0), again)

    def _start_over(self, node: SimNode) -> None:
        contents = node.disk.contents
        if contents is not None and contents.hard_state.quarantine:
            node.crash(lands=False)
            node.disk.wipe()
            node.start()

    # -- what is asked for now and then -----------------------------------------------------------

    def _ask(self, node: SimNode | None, what: str, *arguments: bytes) -> None:
        if node is None or not node.serving or node.loop is None or node.group is None:
            return
        loop, group = node.loop, node.group
        # An application that asks for something that cannot be had is told so, and goes on.
        loop.call_soon(lambda: loop.create_task(_told(getattr(group, what)(*arguments))))

    def transfer(self) -> None:
        self._ask(self.simulation.any_leader(), "transfer_leadership")

    def leave(self) -> None:
        node = self.simulation.any_node()
        if node is None or not node.serving or not self._budget.may_lose(node):
            return
        loop, group = node.loop, node.group
        assert loop is not None
        assert group is not None

        async def leave() -> None:
            while True:
                self._leaves(node)
                try:
                    await group.leave()
                except OutcomeUnknown:
                    await asyncio.sleep(0.5)  # whoever is not told asks again
                except MosaikError:
                    return
                else:
                    break
            self.simulation.scheduler.soon(partial(self._gone, node))

        loop.call_soon(lambda: loop.create_task(leave()))

    def _gone(self, node: SimNode) -> None:
        """A node left. It may return, as somebody new."""
        self.simulation.note(f"{node.name} has left")
        self.simulation.ledger.counts["left"] += 1
        node.crash(lands=True)
        node.disk.contents = None
        self.simulation.scheduler.after(self._chance.uniform(0.5, 3.0), node.start)

    def remove(self) -> None:
        node, other = self.simulation.any_node(), self.simulation.any_node()
        if (
            node is not None
            and other is not None
            and node is not other
            and self._budget.may_lose(other)
        ):
            self._leaves(other)
            self._ask(node, "remove", other.peer)

    def _leaves(self, node: SimNode) -> None:
        self._leaving[node.peer] = self.simulation.scheduler.now + _UNDER_WAY

    def leaving(self) -> set[bytes]:
        """The peers that may be removed soon, because somebody asked for it."""
        now = self.simulation.scheduler.now
        return {peer for peer, until in self._leaving.items() if now < until}

    def newcomer(self) -> None:
        scenario = self.simulation.scenario
        if self._newcomers < scenario.newcomers:
            self._newcomers += 1
            node = self.simulation.add()
            node.observer = self._newcomers <= scenario.observers
            node.start()


async def _told(request: Awaitable[object]) -> bool:
    """Whether something that was asked for was done."""
    try:
        await request
    except MosaikError:
        return False
    return True
