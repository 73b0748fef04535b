"""The kit as a pytest class.

A backend's author writes::

    from mosaik.testing.storage import StorageConformance, Subject

    class TestMine(StorageConformance):
        subject = Subject("mine://{place}/store")

and has a test for every rule, named by its id: ``pytest -k LOG-07``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mosaik.testing.storage.card import Outcome, try_rule
from mosaik.testing.storage.rule import Mark, Rule, rules
from mosaik.testing.storage.subject import Subject

if TYPE_CHECKING:
    import pytest

__all__ = ["StorageConformance"]


class StorageConformance:
    """Every rule of the kit as a test of one backend.

    Rules of marks that the backend does not declare are tried together: one of them has to be broken,
    else the backend keeps by accident what it does not promise.

    Attributes:
        subject: the store.
    """

    subject: ClassVar[Subject]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Makes a test of each rule."""
        claims = self.subject.describe().capabilities
        claimed = [m for m in Mark if m.capability is None or m.capability in claims]
        if "rule" in metafunc.fixturenames:
            owed = [each for each in rules() if each.mark in claimed]
            metafunc.parametrize("rule", owed, ids=[each.id for each in owed])
        if "unclaimed" in metafunc.fixturenames:
            others = [mark for mark in Mark if mark not in claimed]
            metafunc.parametrize("unclaimed", others, ids=[mark.value for mark in others])

    def test_rule(self, rule: Rule) -> None:
        import pytest

        result = try_rule(rule, self.subject)
        if result.outcome in {Outcome.NOT_ATTESTED, Outcome.NOT_APPLICABLE}:
            pytest.skip(f"{rule}: {result.outcome}: {result.detail}")
        assert result.outcome is Outcome.KEPT, f"{rule}\n{result.detail}"

    def test_nothing_is_kept_by_accident(self, unclaimed: Mark) -> None:
        tried = (try_rule(each, self.subject).outcome for each in rules(unclaimed))
        assert any(outcome in {Outcome.BROKEN, Outcome.NOT_ATTESTED} for outcome in tried), (
            f"every rule of {unclaimed} is kept; declare it"
        )
