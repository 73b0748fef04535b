"""etcd's data-driven cases for majorities, put to our quorum.

Its joint majorities are not applicable: a group here changes one replica at a time (thesis §4.1), so two
configurations are never in force together. Nor is its empty majority, which agrees to everything: it only
stands for the absent half of a joint one, and no configuration of ours is without voters.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from mosaik.consensus.quorum import Outcome, committed_index, vote_outcome
from mosaik.primitives.membership import Replica

ROOT = Path(__file__).resolve().parent.parent.parent
SHARED = Path(os.environ.get("MOSAIK_SHARED_DATA", ROOT.parent / "shared" / "data"))
QUORUM = SHARED / "etcd-raft" / "quorum"
OUTCOMES: Final = {
    "VoteWon": Outcome.WON,
    "VoteLost": Outcome.LOST,
    "VotePending": Outcome.PENDING,
}


class Case(NamedTuple):
    """One command and what it should answer.

    Attributes:
        line: where it stands.
        command: ``committed`` or ``vote``.
        voters: the configuration.
        values: what each voter holds, or how it voted; ``_`` where nothing is known.
        answer: the last line of the expected output.
    """

    line: int
    command: str
    voters: tuple[int, ...]
    values: tuple[str, ...]
    answer: str


def cases(name: str) -> Iterator[Case]:
    path = QUORUM / name
    if not path.exists():
        return
    lines = path.read_text().splitlines()
    for at, line in enumerate(lines):
        if line != "----":
            continue
        begin = next(n for n in range(at - 1, -1, -1) if re.match(r"committed|vote", lines[n]))
        # An answer ends with a blank line, or with the next comment or command.
        end = next((n for n in range(at + 1, len(lines)) if not lines[n].strip()), len(lines))
        command = " ".join(lines[begin:at])
        arguments: dict[str, str] = dict(re.findall(r"(\w+)=\(([^)]*)\)", command))
        if not arguments.get("cfg"):
            continue
        voters = tuple(map(int, re.split(r"[,\s]+", arguments["cfg"].strip())))
        given = arguments.get("idx", arguments.get("votes", ""))
        values = tuple(each.strip() for each in given.split(",") if each.strip())
        yield Case(begin + 1, command.split()[0], voters, values, lines[end - 1].strip())


def replica(number: int) -> Replica:
    return Replica(number.to_bytes(32, "big"), b"s" * 16, 0)


def known(case: Case) -> dict[Replica, str]:
    """What is known of each voter, in the order in which the configuration names them."""
    ordered = dict.fromkeys(case.voters)
    return {
        replica(voter): value
        for voter, value in zip(ordered, case.values, strict=False)
        if value != "_"
    }


COMMITTED = list(cases("majority_commit.txt"))
VOTES = list(cases("majority_vote.txt"))


def test_the_cases_are_here_where_they_have_to_be() -> None:
    if not QUORUM.is_dir():
        assert "shared-data" not in os.environ.get("MOSAIK_REQUIRE", "").split(",")
        pytest.skip("the recorded cases are not on this machine; MOSAIK_SHARED_DATA names them")
    assert len(COMMITTED) >= 15
    assert len(VOTES) >= 15
    assert {case.answer for case in VOTES} == OUTCOMES.keys()


@pytest.mark.parametrize("case", COMMITTED, ids=lambda case: f"line {case.line}")
def test_the_same_index_is_committed(case: Case) -> None:
    match = {who: int(value) for who, value in known(case).items()}
    assert committed_index({replica(voter) for voter in case.voters}, match) == int(case.answer)


@pytest.mark.parametrize("case", VOTES, ids=lambda case: f"line {case.line}")
def test_the_same_vote_is_won(case: Case) -> None:
    votes = {who: value == "y" for who, value in known(case).items()}
    assert vote_outcome({replica(voter) for voter in case.voters}, votes) is OUTCOMES[case.answer]
