"""Bugs in consensus: those of the core's own simulator, in groups whose disks and wires are real code."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec
import pytest

from mosaik.consensus import election, following, quorum, replication, step
from mosaik.consensus.core import Core
from mosaik.consensus.messages import AppendEntries, RolledBack
from mosaik.primitives.membership import Replica
from mosaik.testing.simulation import Property
from mosaik.testing.simulation.beyond import Beyond
from tests.consensus.mutants import raft, service
from tests.simulation.bugs.registry import bug

__all__: list[str] = []

bug(Property.DURABLE_VOTE, seeds=5)(raft.a_vote_is_not_persisted)
bug(Property.DURABLE_VOTE, Property.DURABLE_TERM, Property.DURABLE_ACCEPT, seeds=5)(
    raft.a_vote_is_spoken_before_it_is_synced
)
bug(Property.COMMIT_RULE, seeds=20)(raft.an_old_entry_is_committed_by_counting)
bug(Property.COMMIT_QUORUM, seeds=10)(raft.a_learner_is_counted)
bug(Property.COMMIT_QUORUM, seeds=10)(raft.the_old_configuration_decides)
bug(
    Property.COMMITS_STAY,
    Property.DURABLE_ACK,
    Property.STATE_MACHINE_SAFETY,
    Property.COMMIT_QUORUM,
    Property.LIVENESS,
    seeds=10,
)(raft.a_late_message_truncates_below_the_commit)
bug(Property.DURABLE_ACK, seeds=5)(raft.entries_are_acknowledged_before_they_are_synced)
bug(
    Property.LINEARIZABLE,
    seeds=40,
    faults={"pause leader": 3.0, "isolate leader": 2.0, "partition": 5.0},
)(service.a_read_is_answered_without_confirmation)
bug(Property.ONE_CHANGE, seeds=40)(service.a_change_before_a_commit_of_the_own_term)


@bug(
    Property.STATE_MACHINE_SAFETY,
    Property.COMMITS_STAY,
    Property.DURABLE_ACK,
    Property.NO_BUG_REPORTED,
    seeds=20,
    faults={"isolate leader": 3.0, "pause leader": 3.0},
)
def a_stale_append_is_taken_after_a_term_change(patch: pytest.MonkeyPatch) -> None:
    """What a leader of an earlier term sent is treated as if the present one had."""

    def on_append(core: Core, sender: Replica, message: AppendEntries) -> None:
        now = max(message.term, core.term)
        before(core, sender, msgspec.structs.replace(message, term=now))

    before = following.on_append_entries
    patch.setitem(step._HANDLERS, AppendEntries, on_append)


@bug(
    Property.LEADER_COMPLETENESS,
    Property.DURABLE_ACK,
    Property.LIVENESS,
    seeds=40,
    faults={"roll back": 1.5, "crash": 5.0},
)
def a_disk_that_was_rolled_back_goes_on(patch: pytest.MonkeyPatch) -> None:
    """Peers say that it lost what it had acknowledged, and it does not listen."""

    def on_rolled_back(core: Core, *_: object) -> None:
        del core

    patch.setitem(step._HANDLERS, RolledBack, on_rolled_back)


@bug(
    Property.REFUSED,
    seeds=10,
    beyond=True,
    ignoring=set(Property) - {Property.REFUSED},
)
def a_survivor_goes_on_alone(patch: pytest.MonkeyPatch) -> None:
    """Whoever is left of a lost majority leads and commits by itself."""
    struck: list[bool] = []

    def strike(beyond: Beyond) -> None:
        destroy(beyond)
        struck.append(True)

    def vote_outcome(voters: Collection[Replica], votes: Mapping[Replica, bool]) -> quorum.Outcome:
        return quorum.Outcome.WON if struck else counted(voters, votes)

    def committed_index(voters: Collection[Replica], held: Mapping[Replica, int]) -> int:
        return max(held.values(), default=0) if struck else agreed(voters, held)

    def quorum_heard(core: Core) -> bool:
        return bool(struck) or heard(core)

    destroy, counted, agreed = Beyond._strike, quorum.vote_outcome, quorum.committed_index
    heard = replication.quorum_heard
    patch.setattr(Beyond, "_strike", strike)
    patch.setattr(election, "vote_outcome", vote_outcome)
    patch.setattr(replication, "committed_index", committed_index)
    patch.setattr(replication, "quorum_heard", quorum_heard)
