"""What a planted bug is, and the list of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from mosaik.storage.plan import _Misfit

__all__ = ["BUGS", "Bug", "Original", "forgiven", "found_by"]

#: What is called in place of a function of the framework: with that function, and what it is called with.
Instead = Callable[..., Any]
Original = Callable[..., Any]


class Bug(NamedTuple):
    """A bug, and who finds it.

    Attributes:
        rule: the id of the rule that has to be broken.
        says: stands in what the rule says then.
        name: what is wrong.
        places: the functions that are replaced, each by its owner and name.
    """

    rule: str
    says: str
    name: str
    instead: Instead
    places: tuple[tuple[Any, str], ...]

    def plant(self, patch: pytest.MonkeyPatch) -> None:
        """Puts it there."""
        for owner, name in self.places:
            patch.setattr(owner, name, _wrapped(getattr(owner, name), self.instead))


def _wrapped(original: Original, instead: Instead) -> Callable[..., Any]:
    def call(*given: Any, **named: Any) -> Any:
        return instead(original, *given, **named)

    return call


BUGS: list[Bug] = []


def found_by(rule: str, says: str, *places: tuple[Any, str]) -> Callable[[Instead], Instead]:
    """Lists a function that is called in place of these, as a bug that this rule has to find."""

    def register(instead: Instead) -> Instead:
        name = f"{rule}-{instead.__name__.replace('_', '-')}"
        BUGS.append(Bug(rule, says, name, instead, places))
        return instead

    return register


def forgiven(
    rule: str, says: str, place: tuple[Any, str], reason: str, instead: Callable[..., Any]
) -> None:
    """Lists the bug that a batch is taken which should be refused for this reason."""

    def check(original: Original, *given: Any, **named: Any) -> Any:
        try:
            return original(*given, **named)
        except _Misfit as misfit:
            if reason not in str(misfit):
                raise
            return instead(*given)

    name = f"{rule}-forgives-{says.rpartition('with ')[2].strip().replace(' ', '-')}"
    BUGS.append(Bug(rule, says, name, check, (place,)))
