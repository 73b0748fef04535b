"""Bugs in how histories begin and end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mosaik.consensus import (
    genesis,
    histories,
    lives,
    step,
)
from mosaik.consensus.core import Core
from mosaik.consensus.effects import Accepted
from mosaik.consensus.inputs import Submit
from mosaik.consensus.messages import (
    ClientClass,
    HistoryInfo,
    Propose,
    ProposeReply,
    ProposeVerdict,
)
from mosaik.primitives.entry import EntryKind
from mosaik.primitives.membership import Replica
from mosaik.testing.simulation.rules.store import PlainStore
from tests.consensus.mutants.registry import mutant, nothing
from tests.consensus.mutants.scenarios import (
    CHURN,
    GENESIS,
    MEETING,
    MEETING_UNDER_LOAD,
    OVERLAP,
)
from tests.consensus.simulation import Property
from tests.consensus.simulation.faults import Faults
from tests.consensus.simulation.node import SimNode

__all__: list[str] = []


# -- genesis ----------------------------------------------------------------------------------------


@mutant(Property.DURABLE_ACCEPT, Property.DURABLE_TERM, scenario=GENESIS)
def acceptance_is_not_persisted(patch: pytest.MonkeyPatch) -> None:
    def accept(core: Core, attempt: Any) -> None:
        patch.setattr(Core, "mark_dirty", nothing)
        accepted(core, attempt)
        patch.setattr(Core, "mark_dirty", mark)

    accepted, mark = genesis.accept, Core.mark_dirty
    patch.setattr(genesis, "accept", accept)


def _accepts_again(patch: pytest.MonkeyPatch) -> None:
    def on_propose(core: Core, sender: Replica, message: Propose) -> None:
        attempt = message.attempt
        undecided = core.attempt is not None and core.log.last_index == 1
        named = core.me in attempt.founders.voters
        if undecided and named and core.history != attempt.history:
            genesis.accept(core, attempt)
            core.send(sender, ProposeReply(attempt.history, ProposeVerdict.ACCEPTED))
        else:
            before(core, sender, message)

    before = genesis.on_propose
    patch.setattr(genesis, "on_propose", on_propose)
    patch.setitem(step._HANDLERS, Propose, on_propose)


@mutant(Property.ONE_HISTORY, scenario=OVERLAP)
def a_store_accepts_two_attempts(patch: pytest.MonkeyPatch) -> None:
    _accepts_again(patch)


@mutant(
    Property.S3_SHARED_STORE,
    scenario=OVERLAP,
    ignoring=(
        Property.ONE_HISTORY,
        Property.ONE_VOTE,
        Property.DURABLE_ACCEPT,
        Property.NO_BUG_REPORTED,
        Property.DEAD_STAYS_DEAD,
        Property.LAWFUL_END,
    ),
)
def a_store_founds_two_histories(patch: pytest.MonkeyPatch) -> None:
    _accepts_again(patch)


@mutant(
    Property.NO_BUG_REPORTED,
    scenario=OVERLAP,
    ignoring=(
        Property.ONE_HISTORY,
        Property.ONE_VOTE,
        Property.DURABLE_ACCEPT,
        Property.DEAD_STAYS_DEAD,
        Property.LAWFUL_END,
        Property.S3_SHARED_STORE,
    ),
)
def a_founder_hears_that_its_founded_history_is_dead(patch: pytest.MonkeyPatch) -> None:
    _accepts_again(patch)


@mutant(Property.FOUNDED_BY_ALL, scenario=GENESIS)
def founded_with_a_majority_of_accepts(patch: pytest.MonkeyPatch) -> None:
    founds_with_a_majority(patch)


@mutant(
    Property.S3_SHARED_STORE,
    scenario=GENESIS,
    ignoring=(
        Property.FOUNDED_BY_ALL,
        Property.DEAD_STAYS_DEAD,
        Property.NO_BUG_REPORTED,
        Property.LAWFUL_END,
    ),
)
def a_majority_of_accepts_founds_two_histories(patch: pytest.MonkeyPatch) -> None:
    founds_with_a_majority(patch)


@mutant(
    Property.DEAD_STAYS_DEAD,
    scenario=GENESIS,
    ignoring=(
        Property.FOUNDED_BY_ALL,
        Property.NO_BUG_REPORTED,
        Property.LAWFUL_END,
        Property.S3_SHARED_STORE,
    ),
)
def a_majority_of_accepts_founds_what_is_dead(patch: pytest.MonkeyPatch) -> None:
    founds_with_a_majority(patch)


def founds_with_a_majority(patch: pytest.MonkeyPatch) -> None:
    def decide(core: Core) -> None:
        attempt = core.attempt
        if attempt is not None:
            voters = attempt.founders.voters
            if len(core.accepts & set(voters)) > len(voters) // 2:
                core.accepts |= set(voters)
        before(core)

    before = genesis.decide
    patch.setattr(genesis, "decide", decide)


@mutant(Property.DURABLE_ACCEPT, scenario=GENESIS)
def giving_up_is_answered_but_not_recorded(patch: pytest.MonkeyPatch) -> None:
    def on_propose(core: Core, sender: Replica, message: Propose) -> None:
        if message.giving_up and core.pristine:
            core.send(sender, ProposeReply(message.attempt.history, ProposeVerdict.DEAD))
        else:
            before(core, sender, message)

    before = genesis.on_propose
    patch.setattr(genesis, "on_propose", on_propose)
    patch.setitem(step._HANDLERS, Propose, on_propose)


@mutant(Property.LAWFUL_END, scenario=GENESIS)
def an_accepted_attempt_is_given_up_by_a_timer(patch: pytest.MonkeyPatch) -> None:
    def push(core: Core) -> None:
        if core.now >= core.attempt_since + core.parameters.genesis_timeout:
            lives.end_life(core)
        else:
            before(core)

    before = genesis._push
    patch.setattr(genesis, "_push", push)


@mutant(Property.LAWFUL_END, scenario=GENESIS)
def an_attempt_is_left_before_its_dissolve_commits(patch: pytest.MonkeyPatch) -> None:
    def apply_dissolve(core: Core) -> None:
        if core.fenced and core.history:
            lives.end_life(core, b"")

    patch.setattr(histories, "apply_dissolve", apply_dissolve)


def _wiped_keeps_id(patch: pytest.MonkeyPatch) -> None:
    def wipe(faults: Faults) -> None:
        node: SimNode | None = faults._any()
        if node is not None:
            faults.simulation.crash(node, write_lands=False)
            node.store = PlainStore(node.store.hard_state.store)
            faults._while(0.05, 0.5, lambda: faults.simulation.start(node))

    patch.setattr(Faults, "_wipe", wipe)


@mutant(Property.ONE_HISTORY, Property.ONE_VOTE, Property.LIFE_FORWARD, scenario=GENESIS)
def a_wiped_store_keeps_its_id_in_genesis(patch: pytest.MonkeyPatch) -> None:
    _wiped_keeps_id(patch)


@mutant(
    Property.ONE_VOTE,
    Property.ELECTION_SAFETY,
    Property.LEADER_COMPLETENESS,
    Property.S3_SHARED_STORE,
    scenario=replace(CHURN, faults={"wipe": 3, "isolate leader": 3, "crash leader": 2}),
    ignoring=(Property.ONE_HISTORY, Property.LAWFUL_END, Property.LIFE_FORWARD),
)
def a_wiped_store_keeps_its_id_in_raft(patch: pytest.MonkeyPatch) -> None:
    _wiped_keeps_id(patch)


# -- dissolving -------------------------------------------------------------------------------------


@mutant(Property.S4_DISSOLVED, Property.FENCED, scenario=MEETING_UNDER_LOAD)
def a_command_is_appended_after_dissolve(patch: pytest.MonkeyPatch) -> None:
    def submit(core: Core, item: Submit) -> None:
        if core.is_leader and core.fenced:
            first = core.append(EntryKind.COMMAND, list(item.payloads))
            core.answer(Accepted(item.token, first, core.term, len(item.payloads)))
        else:
            before(core, item)

    before = step._submit
    patch.setattr(step, "_submit", submit)


@mutant(Property.S4_DISSOLVED, scenario=MEETING_UNDER_LOAD)
def dissolve_over_an_uncommitted_command(patch: pytest.MonkeyPatch) -> None:
    def must_yield(core: Core, info: HistoryInfo) -> bool:
        if core.fenced or core.client_class is ClientClass.SOME:
            return False
        return info.client is ClientClass.SOME or info.history < core.history

    patch.setattr(histories, "must_yield", must_yield)


@mutant(Property.S4_CYCLE, scenario=MEETING)
def dissolve_in_any_direction(patch: pytest.MonkeyPatch) -> None:
    def must_yield(core: Core, info: HistoryInfo) -> bool:
        return not core.fenced and core.client_class is ClientClass.NONE

    patch.setattr(histories, "must_yield", must_yield)


@mutant(Property.ONE_HISTORY, scenario=MEETING)
def an_erased_store_keeps_its_life(patch: pytest.MonkeyPatch) -> None:
    def erase(core: Core, reborn: Replica) -> None:
        del reborn
        before(core, core.me)

    before = lives._erase
    patch.setattr(lives, "_erase", erase)
