"""The report card: what outcomes make of marks, and what declares them."""

from __future__ import annotations

import pytest

from mosaik.testing.storage import (
    Card,
    Mark,
    Outcome,
    Result,
    Rule,
    StorageConformance,
    Subject,
    conformance,
)
from mosaik.testing.storage.card import Verdict

KEPT, BROKEN = Outcome.KEPT, Outcome.BROKEN
OPEN, NONE = Outcome.NOT_ATTESTED, Outcome.NOT_APPLICABLE


def card(mark: Mark, *outcomes: Outcome, claims: frozenset[Mark] = frozenset()) -> Card:
    results = [
        Result(f"LOG-{at:02}", "A sentence.", mark, each) for at, each in enumerate(outcomes)
    ]
    return Card("memory", "memory", claims, results)


@pytest.mark.parametrize(
    ("outcomes", "claimed", "unclaimed"),
    [
        ((KEPT, KEPT), Verdict.EARNED, Verdict.BY_ACCIDENT),
        ((KEPT, NONE), Verdict.EARNED, Verdict.BY_ACCIDENT),
        ((KEPT, BROKEN), Verdict.BROKEN, Verdict.NOT_CLAIMED),
        ((OPEN, BROKEN), Verdict.BROKEN, Verdict.NOT_CLAIMED),
        ((KEPT, OPEN), Verdict.NOT_ATTESTED, Verdict.NOT_ATTESTED),
        ((NONE,), Verdict.NOT_ATTESTED, Verdict.NOT_ATTESTED),
        ((), Verdict.NOT_ATTESTED, Verdict.NOT_ATTESTED),
    ],
)
def test_a_mark_is_earned_claimed_and_kept(
    outcomes: tuple[Outcome, ...], claimed: Verdict, unclaimed: Verdict
) -> None:
    mark = Mark.KILL_SAFE
    assert card(mark, *outcomes, claims=frozenset({mark})).verdicts[mark] is claimed
    assert card(mark, *outcomes).verdicts[mark] is unclaimed


def test_what_all_owe_needs_no_claim() -> None:
    assert card(Mark.FUNCTIONAL, KEPT).verdicts[Mark.FUNCTIONAL] is Verdict.EARNED
    assert not card(Mark.FUNCTIONAL, BROKEN).passed


@pytest.mark.parametrize(
    ("outcome", "claimed", "passes"),
    [
        (KEPT, True, True),
        (KEPT, False, False),
        (BROKEN, True, False),
        (BROKEN, False, True),
        (OPEN, True, True),
    ],
)
def test_a_card_passes_that_is_as_it_says(outcome: Outcome, claimed: bool, passes: bool) -> None:
    mark = Mark.POWER_SAFE
    claims = frozenset({mark} if claimed else ())
    assert card(mark, outcome, claims=claims).passed is passes


class Memory(StorageConformance):
    subject = Subject("memory://")


@pytest.mark.parametrize(("outcome", "fails"), [(KEPT, True), (BROKEN, False), (OPEN, False)])
def test_what_is_kept_by_accident_fails_the_class(
    outcome: Outcome, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tried(rule: Rule, _: Subject) -> Result:
        return Result(rule.id, rule.sentence, rule.mark, outcome)

    monkeypatch.setattr(conformance, "try_rule", tried)
    if fails:
        with pytest.raises(AssertionError, match="every rule of power-safe is kept; declare it"):
            Memory().test_nothing_is_kept_by_accident(Mark.POWER_SAFE)
    else:
        Memory().test_nothing_is_kept_by_accident(Mark.POWER_SAFE)


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("sqlite://{place}/store.db", "sqlite://{place}/store.db"),
        ("postgresql://u:p@h/db?store={name}", "postgresql://u:***@h/db?store={name}"),
        ("postgresql://u:p@:w@h:1/db", "postgresql://u:***@h:1/db"),
        ("postgresql://u@h:5432/a:b@c", "postgresql://u@h:5432/a:b@c"),
    ],
)
def test_passwords_are_not_shown(template: str, shown: str) -> None:
    assert Subject(template).shown == shown
    assert shown in repr(Subject(template))
