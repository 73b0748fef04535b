"""When a replica whose tail was damaged may vote and count again."""

from __future__ import annotations

import pytest

from mosaik.consensus import following
from mosaik.consensus.core import Core
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
