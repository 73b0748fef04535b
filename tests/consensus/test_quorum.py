"""Majorities, against an implementation that is too dumb to be wrong."""

from __future__ import annotations

import random
from itertools import product

import pytest

from mosaik.consensus.quorum import Outcome, committed_index, has_majority, vote_outcome
from mosaik.primitives.membership import Replica


def replicas(count: int) -> list[Replica]:
    return [Replica(bytes([n]) * 32, bytes([n]) * 16, 0) for n in range(count)]


def dumb_committed_index(voters: list[Replica], match: dict[Replica, int]) -> int:
    """Tries every index from the top and counts on its fingers."""
    if not voters:
        return 0
    for index in range(max(match.values(), default=0), 0, -1):
        fingers = 0
        for voter in voters:
            if voter in match and match[voter] >= index:
                fingers += 1
        if 2 * fingers > len(voters):
            return index
    return 0


def dumb_outcome(voters: list[Replica], votes: dict[Replica, bool]) -> Outcome:
    """Tries every way in which those who have not voted yet might."""
    silent = [voter for voter in voters if voter not in votes]
    wins: set[bool] = set()
    for rest in product((True, False), repeat=len(silent)):
        complete = {**votes, **dict(zip(silent, rest, strict=True))}
        wins.add(2 * sum(complete[voter] for voter in voters) > len(voters))
    if wins == {True}:
        return Outcome.WON
    return Outcome.LOST if wins == {False} else Outcome.PENDING


@pytest.mark.parametrize("seed", range(20))
def test_they_agree(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(250):
        everybody = replicas(chance.randrange(1, 9))
        voters = chance.sample(everybody, chance.randrange(1, len(everybody) + 1))
        known = chance.sample(everybody, chance.randrange(0, len(everybody) + 1))
        match = {replica: chance.randrange(0, 6) for replica in known}
        assert committed_index(voters, match) == dumb_committed_index(voters, match)
        votes = {replica: chance.random() < 0.5 for replica in known}
        assert vote_outcome(voters, votes) is dumb_outcome(voters, votes)
        agreeing = {replica for replica, vote in votes.items() if vote}
        assert has_majority(voters, agreeing) == (vote_outcome(voters, votes) is Outcome.WON)


@pytest.mark.parametrize(
    ("match", "committed"),
    [
        ([3], 3),
        ([3, 0], 0),
        ([3, 2], 2),
        ([3, 2, 1], 2),
        ([9, 0, 0], 0),
        ([4, 4, 1, 1], 1),
        ([5, 4, 3, 2, 1], 3),
    ],
)
def test_what_a_majority_holds(match: list[int], committed: int) -> None:
    voters = replicas(len(match))
    assert committed_index(voters, dict(zip(voters, match, strict=True))) == committed


def test_nobody_decides_nothing() -> None:
    outsider = replicas(2)[1]
    assert committed_index([], {outsider: 9}) == 0
    assert not has_majority([], [outsider])


def test_a_past_life_does_not_vote_for_the_present_one() -> None:
    one, two, three = replicas(3)
    reborn = two._replace(life=1)
    assert committed_index([one, two, three], {one: 5, reborn: 5}) == 0
    assert vote_outcome([one, two, three], {one: True, reborn: True}) is Outcome.PENDING
