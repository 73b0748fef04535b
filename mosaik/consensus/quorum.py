"""Majorities: the two questions that a set of voters answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum

from mosaik.primitives.membership import Replica

__all__ = ["Outcome", "committed_index", "has_majority", "vote_outcome"]


class Outcome(Enum):
    """How an election stands."""

    PENDING = "pending"
    WON = "won"
    LOST = "lost"


def has_majority(voters: Collection[Replica], agreeing: Collection[Replica]) -> bool:
    """Whether more than half of the voters are among those who agree. Nobody else counts."""
    return sum(1 for voter in voters if voter in agreeing) > len(voters) // 2


def committed_index(voters: Collection[Replica], match: Mapping[Replica, int]) -> int:
    """The highest index that a majority of the voters holds; a voter that is not in ``match`` holds
    nothing. 0 without voters."""
    if not voters:
        return 0
    held = sorted((match.get(voter, 0) for voter in voters), reverse=True)
    return held[len(held) // 2]


def vote_outcome(voters: Collection[Replica], votes: Mapping[Replica, bool]) -> Outcome:
    """Whether the votes cast (True: granted) already decide."""
    granted = {replica for replica, vote in votes.items() if vote}
    refused = {replica for replica, vote in votes.items() if not vote}
    if has_majority(voters, granted):
        return Outcome.WON
    undecided = sum(1 for voter in voters if voter not in granted and voter not in refused)
    in_favour = sum(1 for voter in voters if voter in granted)
    if in_favour + undecided <= len(voters) // 2:
        return Outcome.LOST
    return Outcome.PENDING
