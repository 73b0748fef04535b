"""etcd's data-driven cases for configuration changes: what is wished, and what comes of it.

A command changes the configuration that the one before it left behind. Its wishes are words of a letter
and a node: ``v1`` makes node 1 a voter, ``l1`` a learner, ``r1`` removes it, and ``u1`` says something
about it that is none of Raft's business.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from enum import Enum
from itertools import groupby
from typing import Final, NamedTuple

from tests.consensus.recorded.blocks import Block, blocks

__all__ = ["ALL_VOTERS_GONE", "Case", "State", "Why", "cases", "chapters", "wished"]

#: What etcd says of a change that would leave nobody who counts.
ALL_VOTERS_GONE: Final = "removed all voters"
_REFUSALS: Final = {
    ALL_VOTERS_GONE,
    "more than one voter changed without entering joint config",
    "config is already joint",
    "can't leave a non-joint config",
    "can't make a zero-voter config joint",
    "can't apply simple config change in joint config",
}
_CONFIGURATION: Final = re.compile(
    r"voters=\((?P<voters>[\d ]+)\)(?P<joint>&&\([\d ]+\))?"
    r"(?: learners=\((?P<learners>[\d ]+)\))?(?: learners_next=\([\d ]+\))?(?: autoleave)?"
)


class State(NamedTuple):
    """Who counts, and who only listens."""

    voters: frozenset[int] = frozenset()
    learners: frozenset[int] = frozenset()

    def __str__(self) -> str:
        return f"voters {sorted(self.voters)} learners {sorted(self.learners)}"


class Case(NamedTuple):
    """One command, and what it should come to.

    Attributes:
        file: where it stands,
        line: and in which line.
        command: ``simple``, ``enter-joint`` or ``leave-joint``.
        wishes: its words.
        before: the configuration that it is put to; of a joint one, the incoming half.
        joint: that configuration is a joint one.
        after: what the configuration is then.
        refusal: what etcd said when it refused; empty when it did not.
    """

    file: str
    line: int
    command: str
    wishes: tuple[str, ...]
    before: State
    joint: bool
    after: State
    refusal: str

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"


def cases() -> list[Case]:
    """Every case, in order."""
    found: list[Case] = []
    for _, of_one_file in groupby(blocks("confchange"), key=lambda block: block.file):
        state, joint = State(), False
        for block in of_one_file:
            case, joint = _case(block, state, joint)
            state = case.after
            found.append(case)
    return found


def _case(block: Block, before: State, joint: bool) -> tuple[Case, bool]:
    """The case, and whether it leaves a joint configuration behind."""
    answer = block.answer[0]
    configuration = _CONFIGURATION.fullmatch(answer)
    if configuration is None:
        assert answer in _REFUSALS, f"{block.where}: {answer}"
        after, still = before, joint
    else:
        after = State(_numbers(configuration["voters"]), _numbers(configuration["learners"] or ""))
        still = configuration["joint"] is not None
    wishes = tuple(word for line in block.given for word in line.split())
    command = block.command.split()[0]
    refusal = "" if configuration is not None else answer
    return Case(block.file, block.line, command, wishes, before, joint, after, refusal), still


def _numbers(text: str) -> frozenset[int]:
    return frozenset(map(int, text.split()))


def wished(state: State, wish: str) -> State:
    """The configuration once this is done."""
    kind, number = wish[0], {int(wish[1:])}
    voters, learners = state.voters - number, state.learners - number
    if kind == "u":
        return state
    return State(
        voters | (number if kind == "v" else set()), learners | (number if kind == "l" else set())
    )


class Why(Enum):
    """Why a case has no counterpart here."""

    JOINT = (
        "a group changes one replica at a time (thesis §4.1): two configurations are never in force "
        "together, and so none is entered, left or refused"
    )
    NOBODY = "no key and no store stands for nobody, as etcd's node 0 does"
    UPDATED = "a member is what it was when it joined: there is no wish to update it"
    DEMOTED = (
        "a voter is never made a learner: it leaves, and may come back as an observer, which is "
        "somebody new"
    )
    TOGETHER = (
        "nobody can wish for two voters at once: whoever joins or leaves asks for itself, and the "
        "leader does one after the other instead of refusing both"
    )

    @classmethod
    def of(cls, case: Case) -> Why | None:
        """The first of these that is true of the case."""
        if case.command != "simple" or case.joint:
            return cls.JOINT
        if any(int(wish[1:]) == 0 for wish in case.wishes):
            return cls.NOBODY
        if any(wish.startswith("u") for wish in case.wishes):
            return cls.UPDATED
        state = case.before
        for wish in case.wishes:
            if wish.startswith("l") and int(wish[1:]) in state.voters:
                return cls.DEMOTED
            state = wished(state, wish)
        return cls.TOGETHER if len(case.before.voters ^ state.voters) > 1 else None


def chapters(all_cases: Iterable[Case], left_out: Collection[str]) -> list[list[Case]]:
    """The cases that one group plays in a row: a new one takes over wherever some were left out."""
    found: list[list[Case]] = []
    follows = ""
    for case in all_cases:
        if case.where in left_out:
            follows = ""
            continue
        # Before there is a configuration, nothing that was wished leaves a trace.
        if case.file != follows or not case.before.voters:
            found.append([])
        found[-1].append(case)
        follows = case.file
    return found
