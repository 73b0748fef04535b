"""What a rule of the kit is, and the one list of them all.

A rule is a plain function with an id and a sentence. The pytest class, ``mosaik storage check`` and the
documentation are made from the list, so none of them can say more, or less, than the others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from enum import StrEnum
from importlib import import_module
from typing import TYPE_CHECKING, Final, NamedTuple

from mosaik.storage.contract import Capability

if TYPE_CHECKING:
    from mosaik.testing.storage.ground import Ground

__all__ = ["Broken", "Mark", "NotApplicable", "NotAttested", "Rule", "rule", "rules"]


class Mark(StrEnum):
    """What a store that passes all rules of one kind has earned."""

    FUNCTIONAL = "functional"
    KILL_SAFE = "kill-safe"
    POWER_SAFE = "power-safe"
    CORRUPTION_DETECTING = "corruption-detecting"

    @property
    def capability(self) -> Capability | None:
        """What a backend declares for it; nothing for `FUNCTIONAL`, which is owed by all."""
        return None if self is Mark.FUNCTIONAL else Capability(self.value)


class Broken(AssertionError):
    """The store breaks a rule; the message says how."""


class NotAttested(Exception):
    """The rule cannot be tried on this machine, or on this kind of store; the message says why."""


class NotApplicable(NotAttested):
    """The rule is about something that this kind of store has not got, such as a server or an option.

    It stands in no mark's way, where `NotAttested` leaves the mark open.
    """


class Rule(NamedTuple):
    """One thing that a store owes.

    Attributes:
        id: a short name that stays, such as ``LOG-07``.
        sentence: what the store owes.
        mark: what it is needed for.
        check: tries it; raises `Broken` (or any other exception) when the store breaks it, `NotAttested`
            when it cannot be tried, `NotApplicable` when there is nothing to try.
    """

    id: str
    sentence: str
    mark: Mark
    check: Callable[[Ground], None]

    def __str__(self) -> str:
        return f"{self.id} · {self.sentence}"


_ID: Final = re.compile(r"[A-Z]+-\d\d")
_rules: Final[dict[str, Rule]] = {}


def rule(
    id_: str, sentence: str, mark: Mark = Mark.FUNCTIONAL
) -> Callable[[Callable[[Ground], None]], Callable[[Ground], None]]:
    """Adds a function to the list.

    Raises:
        ValueError: the id is malformed or taken.
    """
    if not _ID.fullmatch(id_) or id_ in _rules:
        raise ValueError(f"{id_!r} is not a new rule id of the form LOG-07")

    def register(check: Callable[[Ground], None]) -> Callable[[Ground], None]:
        _rules[id_] = Rule(id_, sentence, mark, check)
        return check

    return register


def rules(mark: Mark | None = None) -> Sequence[Rule]:
    """All rules, or those of one mark; first what every store owes, then by mark and id."""
    import_module("mosaik.testing.storage.rulebook")  # they register themselves
    chosen = [each for each in _rules.values() if mark is None or each.mark is mark]
    return sorted(chosen, key=lambda each: (list(Mark).index(each.mark), each.id))
