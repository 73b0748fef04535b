"""etcd's data-driven cases for simple configuration changes, put to groups of our cores.

What has no counterpart here is listed, each case with its reason, and the list is exact: whatever is not
in it is played. Of etcd's output, the lines that track progress are not compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Final

import pytest

from mosaik.consensus import LAST_VOTER, changes, genesis, leaving
from mosaik.consensus.core import Core
from mosaik.consensus.effects import Done
from mosaik.primitives.membership import Configuration, Member, Replica, Role
from tests.consensus.recorded import Case, Group, State, Why, cases, chapters, needed, wished
from tests.consensus.recorded.changes import ALL_VOTERS_GONE
from tests.consensus.recorded.group import NO_HISTORY
from tests.consensus.simulation import Violation

#: File and line of each case that is not played.
NOT_APPLICABLE: Final[dict[str, Why]] = {
    "joint_autoleave.txt:11": Why.JOINT,
    "joint_autoleave.txt:20": Why.JOINT,
    "joint_autoleave.txt:24": Why.JOINT,
    "joint_idempotency.txt:10": Why.JOINT,
    "joint_idempotency.txt:18": Why.JOINT,
    "joint_learners_next.txt:13": Why.JOINT,
    "joint_learners_next.txt:20": Why.JOINT,
    "joint_safety.txt:1": Why.JOINT,
    "joint_safety.txt:5": Why.JOINT,
    "joint_safety.txt:9": Why.JOINT,
    "joint_safety.txt:20": Why.JOINT,
    "joint_safety.txt:25": Why.JOINT,
    "joint_safety.txt:30": Why.JOINT,
    "joint_safety.txt:34": Why.JOINT,
    "joint_safety.txt:39": Why.JOINT,
    "joint_safety.txt:44": Why.JOINT,
    "joint_safety.txt:53": Why.JOINT,
    "joint_safety.txt:57": Why.JOINT,
    "joint_safety.txt:62": Why.JOINT,
    "joint_safety.txt:67": Why.JOINT,
    "simple_idempotency.txt:20": Why.DEMOTED,
    "simple_promote_demote.txt:26": Why.DEMOTED,
    "simple_promote_demote.txt:35": Why.DEMOTED,
    "simple_promote_demote.txt:45": Why.DEMOTED,
    "simple_safety.txt:20": Why.TOGETHER,
    "simple_safety.txt:25": Why.TOGETHER,
    "simple_safety.txt:30": Why.TOGETHER,
    "simple_safety.txt:35": Why.DEMOTED,
    "simple_safety.txt:40": Why.DEMOTED,
    "simple_safety.txt:45": Why.DEMOTED,
    "update.txt:11": Why.UPDATED,
    "update.txt:18": Why.UPDATED,
    "zero.txt:2": Why.NOBODY,
}

#: What we say, or fail to do, where etcd refuses.
OURS: Final = {ALL_VOTERS_GONE: {LAST_VOTER, NO_HISTORY}}

CASES: Final = cases()
CHAPTERS: Final = chapters(CASES, NOT_APPLICABLE)


def begin(story: Sequence[Case]) -> Group:
    """A group as the first case finds it."""
    before = story[0].before
    votes = {int(wish[1:]) for case in story for wish in case.wishes if wish.startswith("v")}
    group = Group()
    group.found(before, before.learners & votes)
    return group


def differences(story: Sequence[Case]) -> Iterator[str]:
    """Where a group of ours comes to something else than etcd, up to the first such case."""
    group = begin(story)
    if group.state != story[0].before:
        yield f"{story[0].where}: begins with {group.state}, not {story[0].before}"
        return
    for case in story:
        found = list(compared(case, group, group.wish(*case.wishes)))
        yield from (f"{case.where}: {each}" for each in found)
        if found:
            return


def compared(case: Case, group: Group, reasons: Sequence[str]) -> Iterator[str]:
    if group.state != case.after:
        yield f"{group.state}, not {case.after}"
    if not group.settled:
        yield "not everybody knows of it"
    if bool(reasons) != bool(case.refusal) or not OURS.get(case.refusal, set()).issuperset(reasons):
        yield f"refused: {', '.join(reasons) or 'no'}, not {case.refusal or 'no'}"
    yield from leaps(group.configurations)


def leaps(configurations: Sequence[Configuration]) -> Iterator[str]:
    """What would have needed a joint configuration, or could not decide anything."""
    for before, after in pairwise(configurations):
        if len(set(before.members) ^ set(after.members)) not in (1, 2):
            yield f"{after} follows {before}"
    yield from (f"nobody counts in {each}" for each in configurations if not each.voters)


# -- the cases --------------------------------------------------------------------------------------


def test_the_cases_are_here_where_they_have_to_be() -> None:
    needed("confchange")
    played = Counter(case.file for story in CHAPTERS for case in story)
    assert played == {
        "joint_autoleave.txt": 1,
        "joint_idempotency.txt": 1,
        "joint_learners_next.txt": 1,
        "joint_safety.txt": 2,
        "simple_idempotency.txt": 10,
        "simple_promote_demote.txt": 4,
        "simple_safety.txt": 5,
        "update.txt": 1,
    }
    assert played.total() + len(NOT_APPLICABLE) == len(CASES) == 58


def test_what_is_left_out_is_left_out_for_its_reason() -> None:
    needed("confchange")
    reasons = {case.where: why for case in CASES if (why := Why.of(case)) is not None}
    assert reasons == NOT_APPLICABLE


@pytest.mark.parametrize("story", CHAPTERS, ids=lambda story: story[0].where)
def test_the_same_replicas_count(story: Sequence[Case]) -> None:
    assert not list(differences(story))
