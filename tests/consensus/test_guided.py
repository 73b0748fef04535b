"""Planted bugs that chance seldom brings to their end: a transcript leads there.

The transcript itself shows what the correct core does; here it is played with the bug in place, and
with the rule that would see the bug at once left out, until a promise is broken.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mosaik.consensus import floors
from mosaik.consensus.core import Core
from tests.consensus.mutants import counts_old_terms, ignores_the_term_of_the_commit
from tests.consensus.simulation import Property, Violation
from tests.consensus.transcript import Transcript, commands_of

TRANSCRIPTS = Path(__file__).with_name("transcripts")


def play(name: str, ignored: frozenset[Property]) -> Property | None:
    """The rule that is broken first, if any."""
    transcript = Transcript(ignored)
    try:
        for command in commands_of((TRANSCRIPTS / f"{name}.txt").read_text()):
            transcript.execute(command)
    except Violation as violation:
        return violation.property
    return None


def forgets_what_was_seen(patch: pytest.MonkeyPatch) -> None:
    def below_floor(*_: object) -> bool:
        return False

    patch.setattr(floors, "below_floor", below_floor)


def trusts_a_damaged_tail(patch: pytest.MonkeyPatch) -> None:
    def able(core: Core) -> bool:
        return not core.quarantine

    patch.setattr(Core, "able", property(able))


CASES: list[tuple[str, Callable[[pytest.MonkeyPatch], None], Property, Property]] = [
    (
        "11_figure_8",
        counts_old_terms,
        Property.COMMIT_RULE,
        Property.LEADER_COMPLETENESS,
    ),
    (
        "12_change_in_a_new_term",
        ignores_the_term_of_the_commit,
        Property.ONE_CHANGE,
        Property.LEADER_COMPLETENESS,
    ),
    (
        "13_rolled_back_voter",
        forgets_what_was_seen,
        Property.LIVENESS,
        Property.LEADER_COMPLETENESS,
    ),
    (
        "15_suspect_voter",
        trusts_a_damaged_tail,
        Property.LIVENESS,
        Property.LEADER_COMPLETENESS,
    ),
]


@pytest.mark.parametrize(
    ("name", "plant", "early", "promise"), CASES, ids=[case[0] for case in CASES]
)
def test_the_bug_breaks_a_promise(
    name: str, plant: Callable[[pytest.MonkeyPatch], None], early: Property, promise: Property
) -> None:
    assert play(name, frozenset()) is None
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        assert play(name, frozenset({early})) is promise
