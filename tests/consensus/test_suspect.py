"""When a replica whose tail was damaged may vote and count again."""

from __future__ import annotations

import pytest

from mosaik.consensus import election, following
from mosaik.consensus.core import Core
from mosaik.consensus.messages import VoteRequest
from mosaik.primitives.membership import Replica
from tests.consensus.simulation import Property, Violation
from tests.consensus.simulation.node import SimNode
from tests.consensus.transcript import Transcript


def do(transcript: Transcript, *commands: str) -> list[str]:
    return [line.strip() for command in commands for line in transcript.execute(command)]


def trusted_at() -> int:
    """Up to which index a damaged replica holds the log when it begins to count again.

    n3 acknowledged the entries 3 and 4 of the present term and cannot read them any more; its
    acknowledgement may be on its way to the leader still. A message carries one entry.
    """
    transcript = Transcript()
    do(transcript, "node 1 2 3 expect=3 bytes=1", "bond all", "run 1", "cut 2/1,3", "submit 1 a b")
    do(transcript, "deliver persist=1 1>3 persist=3 3>1 1>3 persist=3 3>1 1>3 persist=3")
    third: SimNode = transcript._one("3")
    assert third.store.last == 4
    do(transcript, "crash 3", "damage 3 3", "start 3", "bond 1 3", "drop 3>1")
    for _ in range(20):
        lines = do(transcript, "tick 0.13", "deliver 1>3 persist=3", "deliver 3>1")
        if "n3 reports: suspect tail" in lines:
            return third.store.last
    raise AssertionError("never")


def test_not_while_the_leader_may_count_what_is_missing() -> None:
    assert trusted_at() == 4


def test_it_is_trusted_too_early_where_the_term_of_the_damage_is_ignored() -> None:
    def regain(core: Core) -> None:
        core.suspect_term = -1
        before(core)

    before = following._regain
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(following, "_regain", regain)
        assert trusted_at() < 4


# -- whom it may vote for ------------------------------------------------------------------------------


def two_of_which_one_is_damaged() -> list[str]:
    """Both restart, and n2 cannot read the newest entry, which n1 has."""
    transcript = Transcript()
    do(transcript, "node 1 2 expect=2", "bond all", "run 1", "submit 1 a", "run 0.6")
    do(transcript, "crash 1", "crash 2", "damage 2 3", "start 1", "start 2", "bond all")
    return do(transcript, "run 8", "submit 1 b", "run 1", "status")


def test_it_votes_for_one_whose_log_reaches_as_far_as_its_own_once_did() -> None:
    lines = two_of_which_one_is_damaged()
    assert "n2 reports: suspect tail" in lines
    assert any(line.startswith("n1: leader") and "commit=5" in line for line in lines), lines
    assert any(line.startswith("n2: follower") and "commit=5" in line for line in lines), lines


def test_two_voters_of_which_one_is_damaged_are_lost_where_it_never_votes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def silent(core: Core, candidate: Replica, request: VoteRequest) -> bool:
        return not core.suspect and before(core, candidate, request)

    before = election.may_grant
    monkeypatch.setattr(election, "may_grant", silent)
    assert not any(line.startswith("n1: leader") for line in two_of_which_one_is_damaged())


def without_the_first(transcript: Transcript) -> None:
    """A command is committed by n1 and n3; n1 is gone, and n3 cannot read it any more. n2 never saw it."""
    do(transcript, "node 1 2 3 expect=3", "bond all", "run 1", "cut 1/2", "submit 1 a", "run 0.3")
    do(transcript, "crash 1", "crash 3", "damage 3 3", "mend", "start 3", "bond 2 3", "run 8")


def test_it_does_not_vote_for_one_that_may_lack_what_it_acknowledged() -> None:
    transcript = Transcript()
    without_the_first(transcript)
    assert not any("leader" in line for line in do(transcript, "status"))


def test_the_planted_bug_that_votes_as_if_the_tail_had_never_been_loses_a_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Core, "vouched", property(lambda core: core.log.last_cursor))
    with pytest.raises(Violation) as found:
        without_the_first(Transcript())
    assert found.value.property is Property.LEADER_COMPLETENESS


def regained_early(transcript: Transcript) -> None:
    """n3 lost what it acknowledged, and hears from the next leader, entry by entry."""
    do(
        transcript,
        "node 1 2 3 4 5 expect=5 bytes=1",
        "bond all",
        "run 1",
        "submit 1 a b",
        "run 0.6",
    )
    do(transcript, "crash 3", "damage 3 3", "transfer 1 2", "run 0.6", "start 3", "bond 2 3")
    third: SimNode = transcript._one("3")
    for _ in range(20):
        lines = do(transcript, "deliver 2>3 persist=3 3>2", "tick 0.1")
        if "n3 reports: suspect tail" in lines:
            break
    assert third.store.entries[-1].term == third.core.view.term if third.core else False


def test_it_counts_again_with_an_entry_of_the_leaders_own_term() -> None:
    regained_early(Transcript())


def test_the_planted_bug_that_counts_with_any_entry_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def trusting(core: Core) -> None:
        if core.suspect and min(core.matched, core.log.stable):
            core.trust("the leader said something")

    monkeypatch.setattr(following, "_regain", trusting)
    with pytest.raises(AssertionError):
        regained_early(Transcript())


# -- what may be cut, and who may begin anew ----------------------------------------------------------


def test_a_tail_that_may_have_admitted_a_voter_is_not_cut() -> None:
    """n1 was alone, promoted n2, and cannot read that any more: what n2 and it committed must stay."""
    transcript = Transcript()
    do(
        transcript,
        "node 1 expect=1",
        "run 1",
        "node 2",
        "bond all",
        "run 4",
        "submit 1 a",
        "run 0.6",
    )
    promoted = transcript._one("1").store.hard_state.configs[-1]
    do(transcript, "crash 1", f"damage 1 {promoted}", "start 1")
    lines = do(transcript, "submit 1 b", "deliver", "status")
    assert "n1 answers: refused: this replica does not lead" in lines
    assert any(line.startswith("n1: follower") for line in lines)


def test_a_tail_that_a_learner_may_hold_is_not_cut() -> None:
    transcript = Transcript()
    do(transcript, "node 1 expect=1", "run 1", "node 2 observer", "bond all", "run 1")
    do(
        transcript,
        "submit 1 a b",
        "run 0.6",
        "crash 1",
        "damage 1 4",
        "start 1",
        "bond all",
        "run 3",
    )
    first, second = transcript._one("1").store, transcript._one("2").store
    assert first.entries == second.entries[: len(first.entries)]
    assert second.last == 5


def test_a_member_that_was_always_alone_cuts_its_tail_and_goes_on() -> None:
    """There was no other copy, so the loss is named and not prevented: the rules would object."""
    transcript = Transcript(
        frozenset({Property.LEADER_COMPLETENESS, Property.STATE_MACHINE_SAFETY})
    )
    do(transcript, "node 1 expect=1", "run 1", "submit 1 a", "deliver", "crash 1", "damage 1 3")
    lines = do(transcript, "start 1", "deliver", "submit 1 b", "deliver")
    assert "n1 reports: suspect tail" in lines
    assert "n1 answers: accepted at 4 in t2" in lines


def test_a_replica_whose_whole_log_is_damaged_does_not_begin_a_new_life() -> None:
    """It joined, so it may begin anew as long as it acknowledged nothing; but it did."""
    transcript = Transcript()
    do(
        transcript,
        "node 1 expect=1",
        "run 1",
        "node 2",
        "bond all",
        "run 4",
        "submit 1 a",
        "run 0.6",
    )
    do(transcript, "crash 1", "crash 2", "damage 2 1", "start 2", "run 4")
    assert transcript._one("2").store.hard_state.life == 0


def test_a_suspect_that_was_removed_meanwhile_asks_to_come_back() -> None:
    transcript = Transcript()
    do(transcript, "node 1 2 3 4 expect=4", "bond all", "run 1", "submit 1 a", "deliver")
    do(transcript, "crash 4", "damage 4 3", "remove 1 4", "run 1", "start 4", "bond all", "run 30")
    lines = do(transcript, "status")
    assert any(line.startswith("n4: follower") and "last=6" in line for line in lines), lines
