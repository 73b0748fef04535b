"""After the faults: does the group serve again, and is everything there?"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from mosaik.machines import Map
from mosaik.testing.simulation.node import SimNode
from mosaik.testing.simulation.rules import Property

if TYPE_CHECKING:
    from mosaik.testing.simulation.simulation import Simulation

__all__ = ["settle"]

#: Virtual seconds within which a healed group must serve at every node.
LIMIT: Final = 60.0
_LOOK_EVERY: Final = 0.25
#: The key that is only written here.
_PROBE: Final = "probe"


def settle(simulation: Simulation) -> None:
    """Runs until the group is live again, then judges what clients were told.

    Raises:
        Violation: it does not come back, or something is not there.
    """
    simulation.clients.stop()
    simulation.faults.stop()
    if simulation.scenario.beyond:
        simulation.run_for(LIMIT / 2)
        simulation.beyond.require_refusal()
    else:
        _come_back(simulation)
    simulation.clients.judge()


def _come_back(simulation: Simulation) -> None:
    deadline = simulation.scheduler.now + LIMIT
    probes: dict[SimNode, int] = {}
    reason = "it was never looked at"
    while reason and simulation.scheduler.now < deadline:
        simulation.run_for(_LOOK_EVERY)
        reason = _why_not(simulation, probes)
    simulation.ledger.require(not reason, Property.LIVENESS, f"after {LIMIT:g} s: {reason}")


def _why_not(simulation: Simulation, probes: dict[SimNode, int]) -> str:
    """Why the group is not live yet; empty when it is."""
    staying = [node for node in simulation.nodes if not node.left]
    for node in staying:
        if not node.serving or node.group is None or node.core is None:
            return f"{node.name} does not serve"
    for node in staying:
        # Each node must get a command through, by its own handle.
        if node not in probes:
            _probe(simulation, node, probes)
        if not probes[node]:
            return f"{node.name} gets no command through"
    histories = {node.history for node in staying}
    if len(histories) > 1:
        return f"{len(histories)} histories"
    chain = simulation.ledger.history(staying[0].history).chain
    for node in staying:
        assert node.group is not None
        if node.group.committed != len(chain) or node.log.last_index != len(chain):
            return f"{node.name} has applied {node.group.committed} of {len(chain)}"
    leaders = [node.name for node in staying if node.leading]
    return "" if len(leaders) == 1 else f"leaders: {leaders}"


def _probe(simulation: Simulation, node: SimNode, probes: dict[SimNode, int]) -> None:
    loop, group = node.loop, node.group
    assert loop is not None
    assert group is not None
    probes[node] = 0

    def answered(future: object) -> None:
        error = future.exception()  # type: ignore[attr-defined]
        if error is None:
            probes[node] = int(future.result())  # type: ignore[attr-defined]
        else:
            simulation.scheduler.after(_LOOK_EVERY, partial(probes.pop, node, None))

    with loop.running():
        group.execute(Map.Insert(_PROBE, len(probes))).add_done_callback(answered)
