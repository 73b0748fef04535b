"""What may be destroyed without a quorum of good copies being gone.

Of every configuration that is in force somewhere, a majority of the voters keeps its disk. A disk that is
rolled back is the one fault that no replica can see by itself; it is rolled back only to where it had spoken
the same vote, and only while the others that hold all that is committed are a majority, since more is not
promised of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import combinations
from typing import TYPE_CHECKING, Final

from mosaik.primitives.membership import Configuration
from mosaik.testing.simulation.node import SimNode

if TYPE_CHECKING:
    from mosaik.testing.simulation.simulation import Simulation

__all__ = ["Budget"]


class Budget:
    """Tells which disk may be lost now."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation: Final = simulation

    def electorates(self) -> list[set[bytes]]:
        """The store ids of the voters of every configuration that is in force somewhere; and with those the
        learners, since a leader may make one a voter before it hears what became of it."""
        found: list[Configuration] = []
        for node in self.simulation.nodes:
            core = node.core
            if core is not None and core.view.configuration.members:
                found.append(core.view.configuration)
            contents = node.disk.contents
            if contents is not None:
                found.extend(contents.configurations())
        electorates: list[set[bytes]] = []
        for configuration in self._with_removals(found):
            electorates.append({voter.store for voter in configuration.voters})
            electorates.append({member.replica.store for member in configuration.members})
        return electorates

    def _with_removals(self, found: Sequence[Configuration]) -> Iterator[Configuration]:
        """These, and what they become when somebody is removed who was asked to go."""
        leaving = self.simulation.operator.leaving()
        for configuration in found:
            gone = [
                member.replica for member in configuration.members if member.replica.peer in leaving
            ]
            for count in range(len(gone) + 1):
                for some in combinations(gone, count):
                    yield reduce(Configuration.without, some, configuration)

    def _good(self, without: SimNode | None = None) -> set[bytes]:
        """The store ids of those whose disk holds all that they ever confirmed."""
        good: set[bytes] = set()
        for node in self.simulation.nodes:
            contents = node.disk.contents
            if (
                node is without
                or node.left
                or contents is None
                or node.disk.tampered
                or node.suspect
            ):
                continue
            if node.terminated or contents.last < node.disk.owes:
                continue
            good.add(contents.hard_state.store)
        return good

    def may_lose(self, node: SimNode) -> bool:
        """Whether a majority of the voters still has its disk when this one's is gone."""
        good = self._good(node)
        electorates = self.electorates()
        return bool(electorates) and all(2 * len(good & each) > len(each) for each in electorates)

    def held_by_others(self, node: SimNode) -> bool:
        """Whether all that is committed is on a majority of the voters' disks without this one's."""
        history = node.history
        chain = self.simulation.ledger.history(history).chain
        holding: set[bytes] = set()
        for other in self.simulation.nodes:
            contents = other.disk.contents
            if other is node or contents is None or not chain:
                continue
            held = contents.entry(len(chain))
            if held is not None and held.checksum == chain[-1].checksum:
                holding.add(contents.hard_state.store)
        return all(2 * len(holding & each) > len(each) for each in self.electorates())
