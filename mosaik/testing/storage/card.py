"""The report card: every rule tried on a store, and the marks that it has earned."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from mosaik.testing.storage.ground import Ground
from mosaik.testing.storage.rule import Mark, NotApplicable, NotAttested, Rule, rules
from mosaik.testing.storage.subject import Subject

__all__ = ["NOT_ASKED", "Card", "Outcome", "Result", "Verdict", "check", "try_rule"]

#: The detail of rules that were left out.
NOT_ASKED: Final = "it was not asked for"


class Outcome(StrEnum):
    """What came of trying a rule."""

    KEPT = "kept"
    BROKEN = "broken"
    NOT_ATTESTED = "not attested"
    NOT_APPLICABLE = "not applicable"


class Verdict(StrEnum):
    """What came of a mark."""

    EARNED = "earned"
    #: Every rule that could be tried was kept; some could not be tried here.
    NOT_ATTESTED = "not attested"
    #: It is not declared, and at least one rule is broken: as it says of itself.
    NOT_CLAIMED = "not claimed"
    #: It is declared, or owed by all, and a rule is broken.
    BROKEN = "broken"
    #: It is not declared, and yet every rule is kept: nobody can rely on that.
    BY_ACCIDENT = "by accident"


class Result(msgspec.Struct, frozen=True):
    """One rule, tried.

    Attributes:
        detail: why it is broken, not attested or not applicable.
        seconds: how long it took.
    """

    rule: str
    sentence: str
    mark: Mark
    outcome: Outcome
    detail: str = ""
    seconds: float = 0.0


class Card(msgspec.Struct, frozen=True):
    """What a store owes, and what it keeps.

    Attributes:
        url: the template that named the store.
        engine: what it says of itself.
        claims: what it declares.
        results: of every rule.
    """

    url: str
    engine: str
    claims: frozenset[Mark]
    results: Sequence[Result]

    @property
    def verdicts(self) -> dict[Mark, Verdict]:
        """Each mark and what came of it."""
        return {mark: self._verdict(mark) for mark in Mark}

    @property
    def passed(self) -> bool:
        """Nothing that is owed or declared is broken, and nothing is kept by accident."""
        return not {Verdict.BROKEN, Verdict.BY_ACCIDENT} & set(self.verdicts.values())

    def _verdict(self, mark: Mark) -> Verdict:
        outcomes = {result.outcome for result in self.results if result.mark is mark}
        outcomes.discard(Outcome.NOT_APPLICABLE)
        claimed = mark is Mark.FUNCTIONAL or mark in self.claims
        if Outcome.BROKEN in outcomes:
            return Verdict.BROKEN if claimed else Verdict.NOT_CLAIMED
        if Outcome.NOT_ATTESTED in outcomes or not outcomes:
            return Verdict.NOT_ATTESTED
        return Verdict.EARNED if claimed else Verdict.BY_ACCIDENT


def try_rule(each: Rule, subject: Subject, *, seed: int = 0) -> Result:
    """Tries one rule on a store of its own."""
    started = time.monotonic()
    outcome, detail = Outcome.KEPT, ""
    try:
        with Ground(subject, seed=seed) as ground:
            each.check(ground)
    except NotApplicable as why:
        outcome, detail = Outcome.NOT_APPLICABLE, str(why)
    except NotAttested as why:
        outcome, detail = Outcome.NOT_ATTESTED, str(why)
    except Exception as error:  # noqa: BLE001  # whatever a backend raises is its answer
        notes: list[str] = getattr(error, "__notes__", [])  # where Hypothesis shows the steps
        outcome, detail = Outcome.BROKEN, "\n".join([f"{type(error).__name__}: {error}", *notes])
    seconds = time.monotonic() - started
    return Result(each.id, each.sentence, each.mark, outcome, detail, round(seconds, 3))


def check(
    subject: Subject,
    *,
    seed: int = 0,
    only: Sequence[Rule] | None = None,
    progress: Callable[[], None] | None = None,
) -> Card:
    """Tries every rule and fills in the card.

    Args:
        only: these; then the card says of the others that they are not attested.
        progress: is called after each rule.
    """
    results: list[Result] = []
    for each in rules():
        if only is not None and each not in only:
            skipped = Outcome.NOT_ATTESTED
            results.append(Result(each.id, each.sentence, each.mark, skipped, NOT_ASKED))
            continue
        results.append(try_rule(each, subject, seed=seed))
        if progress is not None:
            progress()
    description = subject.describe()
    claims = frozenset(mark for mark in Mark if mark.capability in description.capabilities)
    return Card(subject.shown, description.engine, claims, results)
