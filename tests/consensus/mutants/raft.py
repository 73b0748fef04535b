"""Bugs in elections and replication."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from mosaik.consensus import (
    changes,
    election,
    following,
    reads,
    replication,
    step,
)
from mosaik.consensus.core import Core
from mosaik.consensus.effects import Outgoing
from mosaik.consensus.inputs import Submit
from mosaik.consensus.messages import (
    AppendReply,
    VoteRequest,
)
from mosaik.consensus.outbox import Context, Outbox
from mosaik.consensus.quorum import Outcome, committed_index
from mosaik.primitives.durable import Anchor, HardState
from mosaik.primitives.entry import Entry
from mosaik.primitives.membership import Replica
from tests.consensus.mutants.registry import mutant, nothing
from tests.consensus.mutants.scenarios import (
    CHURN,
    FIVE,
    GROWTH,
    SPLIT,
)
from tests.consensus.simulation import Property
from tests.consensus.simulation.network import LinkQuality

__all__ = ["counts_old_terms"]


# -- elections --------------------------------------------------------------------------------------


@mutant(Property.DURABLE_VOTE)
def a_vote_is_not_persisted(patch: pytest.MonkeyPatch) -> None:
    def hard_state(core: Core, written: int) -> HardState:
        hard = before(core, written)
        return msgspec.structs.replace(hard, voted_for=None) if hard.term > 1 else hard

    before = Core._hard_state
    patch.setattr(Core, "_hard_state", hard_state)


@mutant(Property.DURABLE_VOTE, Property.DURABLE_TERM, Property.DURABLE_ACCEPT)
def a_vote_is_spoken_before_it_is_synced(patch: pytest.MonkeyPatch) -> None:
    def post(outbox: Outbox, outgoing: Outgoing, context: Context, ready: list[Outgoing]) -> None:
        ready.append(outgoing)

    patch.setattr(Outbox, "post", post)


@mutant(Property.ONE_VOTE, Property.STORE_CONTRACT, scenario=SPLIT)
def a_voter_votes_twice_in_a_term(patch: pytest.MonkeyPatch) -> None:
    def may_grant(core: Core, candidate: Replica, request: VoteRequest) -> bool:
        return not request.last.is_behind(core.log.last_cursor)

    patch.setattr(election, "may_grant", may_grant)


@mutant(Property.LEADER_COMPLETENESS)
def a_candidate_that_is_behind_gets_votes(patch: pytest.MonkeyPatch) -> None:
    def may_grant(core: Core, candidate: Replica, request: VoteRequest) -> bool:
        return request.pre or core.voted_for in (None, candidate)

    patch.setattr(election, "may_grant", may_grant)


def elects_without_votes(patch: pytest.MonkeyPatch) -> None:
    def vote_outcome(voters: Sequence[Replica], votes: Mapping[Replica, bool]) -> Outcome:
        del voters, votes
        return Outcome.WON

    patch.setattr(election, "vote_outcome", vote_outcome)


@mutant(Property.ELECTION_QUORUM)
def a_minority_elects(patch: pytest.MonkeyPatch) -> None:
    elects_without_votes(patch)


@mutant(
    Property.ELECTION_SAFETY,
    scenario=SPLIT,
    ignoring=(Property.ELECTION_QUORUM, Property.LEADER_COMPLETENESS, Property.LOG_MATCHING),
)
def a_minority_elects_two_leaders(patch: pytest.MonkeyPatch) -> None:
    elects_without_votes(patch)


@mutant(
    Property.LOG_MATCHING,
    scenario=SPLIT,
    ignoring=(
        Property.ELECTION_QUORUM,
        Property.ELECTION_SAFETY,
        Property.LEADER_COMPLETENESS,
        Property.NO_BUG_REPORTED,
        Property.DURABLE_ACK,
        Property.STATE_MACHINE_SAFETY,
    ),
)
def two_leaders_write_one_term(patch: pytest.MonkeyPatch) -> None:
    elects_without_votes(patch)


@mutant(Property.STORE_CONTRACT, scenario=replace(GROWTH, write_bytes=1))
def the_hard_state_names_entries_that_are_not_written_yet(patch: pytest.MonkeyPatch) -> None:
    def hard_state(core: Core, written: int) -> HardState:
        del written
        return before(core, core.log.last_index)

    before = Core._hard_state
    patch.setattr(Core, "_hard_state", hard_state)


# -- replication ------------------------------------------------------------------------------------


@mutant(Property.DURABLE_ACK)
def entries_are_acknowledged_before_they_are_synced(patch: pytest.MonkeyPatch) -> None:
    def say(core: Core, leader: Replica, round_: int) -> None:
        core.send(leader, AppendReply(core.term, True, core.matched, round_))

    patch.setattr(following, "_say", say)


@mutant(
    Property.DURABLE_ACK,
    Property.STATE_MACHINE_SAFETY,
    scenario=replace(
        CHURN,
        nodes=FIVE,
        faults={"partition": 6, "isolate leader": 3, "slow disk": 3},
        message_bytes=100,
        tail_entries=4,
    ),
    ignoring=(Property.READ_LINEARIZABLE,),
)
def an_acknowledgement_outlives_its_term(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Core, "_forget_agreement", nothing)


def counts_old_terms(patch: pytest.MonkeyPatch) -> None:
    def advance_commit(core: Core) -> None:
        index = committed_index(core.configuration.voters, replication.holders(core))
        if index > core.commit:
            core.commit = index
            core.broadcast_due = True
            reads.on_commit(core)
            changes.on_commit(core)

    patch.setattr(replication, "advance_commit", advance_commit)


@mutant(Property.COMMIT_RULE)
def an_old_entry_is_committed_by_counting(patch: pytest.MonkeyPatch) -> None:
    counts_old_terms(patch)


def _commits_by(patch: pytest.MonkeyPatch, voters: Callable[[Core], Sequence[Replica]]) -> None:
    def advance_commit(core: Core) -> None:
        index = committed_index(voters(core), replication.holders(core))
        if index > core.commit and core.log.term_at(index) == core.term:
            core.commit = index
            core.broadcast_due = True
            reads.on_commit(core)
            changes.on_commit(core)

    patch.setattr(replication, "advance_commit", advance_commit)


@mutant(Property.COMMIT_QUORUM, scenario=GROWTH)
def a_learner_is_counted(patch: pytest.MonkeyPatch) -> None:
    _commits_by(patch, lambda core: [member.replica for member in core.configuration.members])


@mutant(Property.COMMIT_QUORUM, scenario=GROWTH)
def the_old_configuration_decides(patch: pytest.MonkeyPatch) -> None:
    def older(core: Core) -> Sequence[Replica]:
        return core.marks.configs[-2:][0][1].voters

    _commits_by(patch, older)


@mutant(
    Property.COMMITS_STAY,
    Property.DURABLE_ACK,
    Property.STATE_MACHINE_SAFETY,
    Property.COMMIT_QUORUM,
    scenario=replace(CHURN, quality=LinkQuality(slow=0.2, duplicate=0.2, slow_seconds=0.5)),
)
def a_late_message_truncates_below_the_commit(patch: pytest.MonkeyPatch) -> None:
    """Whatever follows the entries of a message is cut, although nothing of it differs."""

    def accept_entries(core: Core, previous: Anchor, entries: list[Entry[Any]]) -> bool:
        if previous.index < core.log.last_index:
            commit, core.commit = core.commit, min(core.commit, previous.index)
            core.truncate(previous.index + 1, previous)
            core.commit = commit
        return before(core, previous, entries)

    before = following.accept_entries
    patch.setattr(following, "accept_entries", accept_entries)


@mutant(Property.LEADER_APPEND_ONLY)
def a_leader_drops_what_it_did_not_commit(patch: pytest.MonkeyPatch) -> None:
    def heartbeat(core: Core) -> None:
        due = core.is_leader and core.now >= core.heartbeat_due
        last = core.log.entry(core.log.last_index)
        before = core.log.entry(core.log.last_index - 1)
        if due and last is not None and before is not None and last.index > core.commit + 1:
            core.truncate(last.index, Anchor(before.term, before.index, before.checksum))
        beat(core)

    beat = replication.heartbeat
    patch.setattr(replication, "heartbeat", heartbeat)


@mutant(Property.STATE_MACHINE_SAFETY, Property.NO_BUG_REPORTED)
def entries_are_taken_without_looking_where_they_join(patch: pytest.MonkeyPatch) -> None:
    def joins(core: Core, previous: Anchor) -> bool:
        return previous.index <= core.log.last_index

    patch.setattr(following, "_joins", joins)


@mutant(Property.ACKNOWLEDGED)
def a_command_is_reported_at_the_index_of_another(patch: pytest.MonkeyPatch) -> None:
    def submit(core: Core, item: Submit) -> None:
        before(core, Submit(item.token, list(reversed(item.payloads))))

    before = step._submit
    patch.setattr(step, "_submit", submit)


@mutant(Property.ANSWERED)
def a_command_is_answered_twice(patch: pytest.MonkeyPatch) -> None:
    def submit(core: Core, item: Submit) -> None:
        before(core, item)
        core.effects.answers += core.effects.answers[-1:]

    before = step._submit
    patch.setattr(step, "_submit", submit)
