"""More is destroyed than a group can bear: it has to stop, and must not answer wrongly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mosaik.testing.simulation.rules import Property

if TYPE_CHECKING:
    from mosaik.testing.simulation.simulation import Simulation

__all__ = ["Beyond"]


class Beyond:
    """Destroys the disks of a majority of the voters, once."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation: Final = simulation
        self._chance: Final = simulation.chance
        self._destroyed_at: int | None = None

    def begin(self) -> None:
        """Chooses when."""
        self.simulation.scheduler.at(self._chance.uniform(10.0, 20.0), self._strike)

    def _strike(self) -> None:
        """A majority of the voters' disks is lost at once, and at least one is left."""
        leader = self.simulation.any_leader()
        core = leader.core if leader is not None else None
        if leader is None or core is None or len(core.view.configuration.voters) < 3:
            self.simulation.scheduler.after(0.5, self._strike)
            return
        voters = core.view.configuration.voters
        nodes = [n for n in self.simulation.nodes if any(v.peer == n.peer for v in voters)]
        for node in self._chance.sample(nodes, len(voters) // 2 + 1):
            node.crash(lands=False)
            node.disk.wipe()
            self.simulation.scheduler.after(self._chance.uniform(0.05, 3.0), node.start)
        self._destroyed_at = self.simulation.clients.acknowledged
        self.simulation.note("fault: too much is destroyed")

    def require_refusal(self) -> None:
        """Nothing was acknowledged after too much was destroyed.

        Raises:
            Violation: something was.
        """
        simulation = self.simulation
        before = self._destroyed_at
        simulation.ledger.require(
            before is not None, Property.LIVENESS, "too little was destroyed to see anything"
        )
        simulation.ledger.require(
            before == simulation.clients.acknowledged,
            Property.REFUSED,
            f"{simulation.clients.acknowledged - (before or 0)} commands were acknowledged after a "
            "majority of the voters' disks was gone",
        )
