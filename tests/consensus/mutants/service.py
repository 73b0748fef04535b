"""Bugs in configuration changes and reads."""

from __future__ import annotations

import pytest

from mosaik.consensus import (
    changes,
    reads,
)
from mosaik.consensus.core import Core
from mosaik.consensus.effects import ReadReady
from mosaik.primitives.membership import Replica, Role
from tests.consensus.mutants.registry import mutant
from tests.consensus.mutants.scenarios import (
    EARLY,
    GROWTH,
    MEETING,
    READS,
)
from tests.consensus.simulation import Property

__all__ = ["ignores_the_term_of_the_commit"]


# -- changes ----------------------------------------------------------------------------------------


def ignores_the_term_of_the_commit(patch: pytest.MonkeyPatch) -> None:
    def may_change(core: Core) -> bool:
        return core.is_leader and core.established and core.marks.config_index <= core.commit

    patch.setattr(changes, "may_change", may_change)


@mutant(Property.ONE_CHANGE, scenario=GROWTH)
def a_change_before_a_commit_of_the_own_term(patch: pytest.MonkeyPatch) -> None:
    ignores_the_term_of_the_commit(patch)


@mutant(Property.ONE_CHANGE, scenario=GROWTH)
def a_change_before_the_last_one_is_committed(patch: pytest.MonkeyPatch) -> None:
    def may_change(core: Core) -> bool:
        return core.is_leader and core.established and reads.term_is_committed(core)

    patch.setattr(changes, "may_change", may_change)


@mutant(Property.ONE_CHANGE, scenario=GROWTH)
def two_voters_are_removed_at_once(patch: pytest.MonkeyPatch) -> None:
    def remove(core: Core, replica: Replica) -> None:
        others = [
            m.replica
            for m in core.configuration.members
            if m.role is Role.VOTER and m.replica not in (replica, core.me)
        ]
        smaller = core.configuration.without(replica)
        changes.propose(core, smaller.without(others[0]) if others else smaller)

    patch.setattr(changes, "_remove", remove)


# -- reads ------------------------------------------------------------------------------------------


def _reads_at_once(core: Core) -> None:
    waiting, core.reads_waiting = core.reads_waiting, []
    for token, origin in waiting:
        if origin is None:
            core.answer(ReadReady(token, core.commit))


@mutant(Property.READ_LINEARIZABLE, scenario=READS)
def a_read_is_answered_without_confirmation(patch: pytest.MonkeyPatch) -> None:
    def start(core: Core) -> None:
        if reads.term_is_committed(core):
            _reads_at_once(core)

    patch.setattr(reads, "start", start)


@mutant(Property.READ_LINEARIZABLE, ignoring=(Property.FOUNDED_FIRST,))
def a_read_index_before_the_first_commit_of_the_term(patch: pytest.MonkeyPatch) -> None:
    """Confirmed by a quorum, at a commit index that a new leader does not know to be old."""

    def term_is_committed(core: Core) -> bool:
        return core.is_leader and core.founded

    def established(core: Core) -> bool:
        return core.founded

    patch.setattr(reads, "term_is_committed", term_is_committed)
    patch.setattr(Core, "established", property(established))


# -- what may follow what ---------------------------------------------------------------------------


@mutant(Property.FOUNDED_FIRST, scenario=EARLY)
def commands_are_taken_before_the_founding_is_committed(patch: pytest.MonkeyPatch) -> None:
    def established(core: Core) -> bool:
        return core.founded

    patch.setattr(Core, "established", property(established))


@mutant(Property.FENCED, Property.S4_DISSOLVED, scenario=MEETING)
def a_dissolving_history_goes_on_changing(patch: pytest.MonkeyPatch) -> None:
    def fenced(core: Core) -> bool:
        del core
        return False

    patch.setattr(Core, "fenced", property(fenced))
