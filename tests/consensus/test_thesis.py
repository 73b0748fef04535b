"""Single rules of Raft, named after the sections of Ongaro's thesis that state them."""

from __future__ import annotations

import pytest

from tests.consensus.transcript import Transcript


def group(*numbers: int, expect: int | None = None) -> Transcript:
    """A founded group with a leader, n1."""
    transcript = Transcript()
    names = " ".join(map(str, numbers))
    do(transcript, f"node {names} expect={expect or len(numbers)}", "bond all", "run 1")
    return transcript


def do(transcript: Transcript, *commands: str) -> list[str]:
    """What happens on these commands."""
    return [line.strip() for command in commands for line in transcript.execute(command)]


def said(lines: list[str], start: str) -> list[str]:
    return [line for line in lines if line.startswith(start)]


def test_3_4_a_vote_is_written_before_it_is_spoken() -> None:
    transcript = group(1, 2, 3)
    do(transcript, "crash 1", "tick 1.6", "drop all", "stand 2", "deliver 2>3 3>2 persist=2")
    asked = do(transcript, "deliver 2>3")
    assert "n3 writes: A t2 vote=n2" in asked
    assert not do(transcript, "deliver 3>2")
    assert "n3 > n2: VoteReply t2 granted" in do(transcript, "deliver persist=3 3>2")


def test_3_4_one_vote_a_term_also_after_a_restart() -> None:
    transcript = group(1, 2, 3)
    do(transcript, "crash 1", "tick 1.6", "drop all", "stand 2")
    do(transcript, "deliver 2>3 3>2 persist=2 2>3 persist=3", "crash 2", "crash 3", "start 3")
    do(transcript, "start 1", "bond 1 3", "drop all", "tick 1.6", "drop all")
    # n1 knows nothing of term 2 and would stand in it; n3 has voted there.
    lines = do(transcript, "stand 1", "deliver 1>3 3>1")
    assert "n3 > n1: VoteReply pre t2 denied (term has passed)" in lines


def test_3_5_a_write_that_is_not_done_is_not_acknowledged() -> None:
    transcript = group(1, 2, 3)
    do(transcript, "submit 1 a", "deliver persist=1 1>2")
    before = said(do(transcript, "deliver 2>1"), "n2 > n1: AppendReply")
    assert all("match=2" in line for line in before)
    after = do(transcript, "deliver persist=2 2>1")
    assert "n2 > n1: AppendReply t1 match=3" in after
    assert "n1 commits 3" in after


def test_3_5_a_leader_counts_itself_when_its_own_disk_is_done() -> None:
    transcript = group(1, 2)
    do(transcript, "submit 1 a", "deliver", "submit 1 b")
    # The follower has it, and the leader's own disk does not yet.
    lines = do(transcript, "deliver 1>2 persist=2 2>1")
    assert "n2 > n1: AppendReply t1 match=4" in lines
    assert not said(lines, "n1 commits")
    assert "n1 commits 4" in do(transcript, "deliver persist=1")


def test_3_6_1_a_candidate_that_is_behind_gets_no_vote() -> None:
    transcript = group(1, 2, 3)
    do(transcript, "cut 1,3/2", "submit 1 a", "deliver", "mend", "crash 1", "tick 1.6", "drop all")
    lines = do(transcript, "stand 2", "deliver 2>3 3>2")
    assert "n3 > n2: VoteReply pre t1 denied (log is behind)" in lines


def test_4_2_1_a_learner_never_counts() -> None:
    transcript = group(1, 2)
    do(transcript, "node 3", "bond all", "run 0.5", "cut 1,3/2", "submit 1 a")
    lines = do(transcript, "deliver")
    assert "n3 > n1: AppendReply t1 match=4" in lines
    assert not said(lines, "n1 commits")


def test_4_2_3_who_hears_a_leader_shields_it() -> None:
    transcript = group(1, 2, 3)
    lines = do(transcript, "stand 3", "deliver 3>2 2>3 3>1 1>3", "status")
    assert "n2 > n3: VoteReply pre t1 denied (hears a leader)" in lines
    assert "n1: leader of A t1 last=2 commit=2 (n1 n2 n3)" in lines


def test_6_2_a_leader_that_reaches_no_majority_steps_down() -> None:
    transcript = group(1, 2, 3)
    lines = do(transcript, "cut 1/2,3", "run 1.6")
    assert "n1 is follower in t1" in lines
    assert "n1 reports: quorum lost" in lines


@pytest.mark.parametrize("reader", [1, 2])
def test_6_4_a_read_waits_for_a_majority(reader: int) -> None:
    transcript = group(1, 2, 3)
    do(transcript, "submit 1 a", "deliver")
    assert not do(transcript, f"read {reader}")
    assert f"n{reader} answers: may read at 3" in do(transcript, "deliver")


def test_9_6_a_pre_vote_changes_nobodys_term() -> None:
    transcript = group(1, 2, 3)
    do(transcript, "cut 3/1,2", "run 6")
    lines = do(transcript, "status")
    assert "n3: pre-candidate of A t1 last=2 commit=2 (n1 n2 n3)" in lines
    do(transcript, "mend", "run 2")
    assert "n1: leader of A t1 last=2 commit=2 (n1 n2 n3)" in do(transcript, "status")


def test_10_2_1_a_leader_replicates_while_its_own_disk_writes() -> None:
    transcript = group(1, 2, 3)
    do(transcript, "submit 1 a", "deliver", "submit 1 b")
    assert said(do(transcript, "deliver 1>2"), "n1 > n2: AppendEntries t1 after 3/t1 [4:command(b)")


def test_commands_wait_for_a_history_and_not_for_a_leader_elsewhere() -> None:
    transcript = group(1, 2, 3)
    lines = do(transcript, "submit 2 a")
    assert lines == ["n2 answers: refused: this replica does not lead (leader n1)"]
