"""When a volatile history is given up, and when not yet."""

from __future__ import annotations

import pytest

from mosaik.consensus import lost
from mosaik.consensus.core import Core
from mosaik.primitives.membership import Member
from tests.consensus.transcript import Transcript


def do(transcript: Transcript, *commands: str) -> list[str]:
    return [line.strip() for command in commands for line in transcript.execute(command)]


def grown(cut: int | None) -> tuple[Transcript, int]:
    """n1 founds alone and takes n3 and then n2 in as voters. After so many twentieths of a second n3 is
    cut off. Answers after how many n2 was promoted."""
    transcript = Transcript()
    do(transcript, "node 1 expect=1 volatile", "run 1", "node 3 volatile", "bond all", "run 4")
    do(transcript, "node 2 volatile", "bond all")
    for count in range(200):
        if count == cut:
            do(transcript, "cut 3/1,2")
        do(transcript, "run 0.05")
        core = transcript._one("1").core
        assert core is not None
        if len(core.view.configuration.voters) == 3:
            return transcript, count
    raise AssertionError("n2 is never promoted")


def is_kept() -> bool:
    """n3 has not heard of the promotion, nor of a command that n1 and n2 committed; n1 restarts. Two of
    three voters still know everything."""
    transcript, _ = grown(grown(None)[1])
    do(transcript, "run 0.1", "submit 1 a", "run 0.1")
    history, _, payload = transcript.workload.acknowledged[-1]
    assert payload == b"a"
    do(transcript, "crash 1", "start 1", "mend", "bond all", "run 8")
    core = transcript._one("2").core
    assert core is not None
    return core.view.history == history and not core.view.lost and core.view.commit >= 7


def test_one_that_lags_does_not_give_up_what_others_still_hold() -> None:
    assert is_kept()


def test_it_would_by_its_own_old_configuration() -> None:
    def knows_no_more(core: Core, member: Member) -> bool:
        del core, member
        return False

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lost, "_may_know_more", knows_no_more)
        assert not is_kept()


def test_learners_that_know_no_more_let_a_lost_history_go() -> None:
    """The only voter forgot, and nobody was promoted: those who remain begin anew, with n1."""
    transcript = Transcript()
    do(transcript, "node 1 expect=1 volatile", "run 1", "node 2 3 volatile", "bond all", "run 1.5")
    core = transcript._one("1").core
    assert core is not None
    assert len(core.view.configuration.voters) == 1
    before = core.view.history
    do(transcript, "crash 1", "start 1", "bond all", "run 20")
    views = [node.core.view for node in transcript.nodes.values() if node.core is not None]
    assert len({view.history for view in views}) == 1
    assert views[0].history != before
    assert all(view.online for view in views)
