"""After the faults: is the group live again, and did nothing get lost?

Theory of operation
-------------------
Everything is mended and every node runs. Within a bounded virtual time each history that still can must
have a leader that commits a new command, equal logs, and every node as a member. What cannot come
back is told apart and counted, never excused silently:

* *lost quorum*: a majority of the voters of a configuration in force is gone (wiped, forgotten, or
  left), so nothing may ever commit there again, and nodes that see it must not found a rival;
* *divergent*: several histories hold commands; each serves its own members;
* *too few*: so many left for good that those who remain may not found a history.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from mosaik.primitives.entry import EntryKind
from mosaik.primitives.membership import Configuration
from mosaik.testing.simulation.rules.violation import Property
from tests.consensus.simulation.node import SimNode

if TYPE_CHECKING:
    from tests.consensus.simulation.simulation import Simulation

__all__ = ["Settling"]

#: Virtual seconds within which a healed group must be live again: a dead voter is given up, genesis
#: may take several attempts, and dissolving comes before joining.
LIMIT = 60.0
LOOK_EVERY = 0.5
#: After so many, what is stuck may be excused, if it is stuck for good.
PATIENCE = 10.0


class Settling:
    """Watches a group come back to life."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        #: By history, the length of the chain at which a new command counts as progress.
        self.probed: dict[bytes, int] = {}

    def run(self) -> None:
        """Runs until the group is live.

        Raises:
            Violation: it does not come back, or something that was acknowledged is not there.
        """
        simulation = self.simulation
        simulation.faults.stop()
        deadline = simulation.now + LIMIT
        reason = "it was never looked at"
        while reason and simulation.now < deadline:
            simulation.run_until(simulation.now + LOOK_EVERY)
            reason = self._unsettled()
            if reason and simulation.now > deadline - LIMIT + PATIENCE and self._excuse():
                reason = ""
            if reason:
                self._probe()
        simulation.ledger.require(not reason, Property.LIVENESS, f"after {LIMIT} s: {reason}")
        simulation.workload.nothing_hangs(simulation.now)
        self._compare()

    # -- is it live? --------------------------------------------------------------------------------

    def _members(self) -> dict[bytes, list[SimNode]]:
        """Running nodes by history; pristine ones under the empty name."""
        members: dict[bytes, list[SimNode]] = defaultdict(list)
        for node in self.simulation.nodes.values():
            if node.core is not None:
                members[node.core.view.history].append(node)
        return members

    def _probe(self) -> None:
        """Asks every leader to take a command, once it can."""
        for history, nodes in self._members().items():
            for node in nodes:
                assert node.core is not None
                view = node.core.view
                if not (view.leading and view.founded) or not history:
                    continue
                chain = self.simulation.ledger.history(history).chain
                if len(chain) > self.probed.get(history, len(chain)):
                    continue
                if view.commit == view.last and view.commit == len(chain):
                    self.probed.setdefault(history, len(chain))
                    self.simulation.step(node, (self.simulation.workload.submit(node, 1),))

    def _unsettled(self) -> str:
        """Why the group is not live yet; empty when it is."""
        members = self._members()
        if not members:
            return "" if all(n.left for n in self.simulation.nodes.values()) else "nobody runs"
        living = [history for history in members if history]
        if not living and self._too_few(members[b""]):
            self.simulation.ledger.counts["too few"] += 1
            return ""
        if b"" in members:
            names = " ".join(node.name for node in members[b""])
            return f"{names} belong to no history"
        if len(living) > 1 and not all(self._has_command(history) for history in living):
            return f"{len(living)} histories, and not all hold commands"
        for history in living:
            reason = self._unsettled_history(history, members[history])
            if reason:
                return reason
        if len(living) > 1:
            self.simulation.ledger.counts["divergent"] += 1
        return ""

    def _too_few(self, nodes: list[SimNode]) -> bool:
        founders = [node for node in nodes if not node.parameters.observer]
        return len(founders) < self.simulation.scenario.expect

    def _has_command(self, history: bytes) -> bool:
        chain = self.simulation.ledger.history(history).chain
        return any(entry.kind is EntryKind.COMMAND for entry in chain)

    def _unsettled_history(self, history: bytes, nodes: list[SimNode]) -> str:
        ledger = self.simulation.ledger.history(history)
        views = [node.core.view for node in nodes if node.core is not None]
        leaders = [node for node in nodes if node.core is not None and node.core.view.leading]
        if len(leaders) != 1:
            return f"{ledger.name} has {len(leaders)} leaders"
        leader = leaders[0]
        assert leader.core is not None
        view = leader.core.view
        if history not in self.probed or len(ledger.chain) <= self.probed[history]:
            return f"{ledger.name} has committed nothing new"
        if any(v.commit != len(ledger.chain) or v.last != v.commit for v in views):
            return f"{ledger.name}: logs differ: {[(v.last, v.commit) for v in views]}"
        for node in nodes:
            if view.configuration.find(node.replica) is None:
                return f"{node.name} is no member of {ledger.name}"
            if node.log.last.checksum != leader.log.last.checksum:
                return f"{node.name} and {leader.name} differ at the same index"
        return ""

    # -- may it be dead? ----------------------------------------------------------------------------

    def _excuse(self) -> bool:
        """Whether what is stuck is lawfully stuck, and the rest is live."""
        members = self._members()
        stuck = {h for h, nodes in members.items() if h and self._quorum_is_gone(h, nodes)}
        commands = [history for history in members if history and self._has_command(history)]
        divergent = len(commands) > 1
        if not stuck and not divergent:
            return False
        for history, nodes in members.items():
            if history and history not in stuck and self._unsettled_history(history, nodes):
                return False
        if len([h for h in members if h and h not in stuck]) > 1 and not divergent:
            return False
        self.simulation.ledger.counts["lost quorum" if stuck else "divergent"] += 1
        return True

    def _quorum_is_gone(self, history: bytes, nodes: list[SimNode]) -> bool:
        # A store with a damaged tail neither votes nor counts until a leader mends it.
        present = {node.replica for node in nodes if not node.suspect}

        def gone(configuration: Configuration) -> bool:
            voters = configuration.voters
            here = sum(1 for voter in voters if voter in present)
            return bool(voters) and here <= len(voters) // 2

        views = [node.core.view for node in nodes if node.core is not None]
        known = [view.configuration for view in views if view.configuration.members]
        # Those who only asked to join know no configuration yet: the last committed one tells.
        return any(gone(configuration) for configuration in known) or (
            not known and history in self.simulation.ledger.histories
        )

    # -- is everything there? -----------------------------------------------------------------------

    def _compare(self) -> None:
        """Every acknowledged command is in the chain once, and in the log of whoever got that far."""
        simulation = self.simulation
        ledger = simulation.ledger
        for name, index, payload in simulation.workload.acknowledged:
            entry = ledger.history(name).chain[index - 1]
            ledger.require(
                entry.payload == payload, Property.ACKNOWLEDGED, f"{payload!r} became {entry}"
            )
        for history in ledger.histories.values():
            payloads = [e.payload for e in history.chain if e.kind is EntryKind.COMMAND]
            ledger.require(
                len(payloads) == len(set(payloads)),
                Property.ACKNOWLEDGED,
                f"{history.name} holds a command twice",
            )
        for node in simulation.nodes.values():
            if not node.up or not node.history:
                continue
            chain = ledger.history(node.history).chain
            for entry in node.entries(1, node.commit):
                if entry.sealed != chain[entry.index - 1].sealed:
                    ledger.broken(
                        Property.STATE_MACHINE_SAFETY,
                        f"{node.name} holds {entry}; {chain[entry.index - 1]} is committed",
                    )
