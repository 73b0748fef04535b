"""Each rule of the kit notices each bug that it is there for, and says which."""

from __future__ import annotations

import pytest

from mosaik.testing.storage import Mark, Outcome, Rule, Subject, rules, try_rule
from tests.storage.planted import BUGS, Bug
from tests.storage.stores import require
from tests.storage.test_kit_mutants import CAUGHT_BY, CAUGHT_TOO

#: What all stores owe is tried where it takes no time, and the rest where it takes little.
MEMORY = Subject("memory://{name}")
LMDB = Subject("lmdb://{place}/store")
RULES = {rule.id: rule for rule in rules()}
#: What only a server can do wrong is tried where there is one.
SERVERS = {"CORR-04", "KILL-04"}


def subject(rule: Rule) -> Subject:
    if rule.mark is Mark.FUNCTIONAL and rule.id != "ERR-08":  # which is about maps
        return MEMORY
    require("lmdb")
    return LMDB


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_the_bug_is_found(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = RULES[bug.rule]
    store = subject(rule)
    bug.plant(monkeypatch)
    result = try_rule(rule, store)
    assert result.outcome is Outcome.BROKEN
    assert bug.says in result.detail


@pytest.mark.parametrize("id_", sorted({bug.rule for bug in BUGS}))
def test_without_a_bug_none_is_found(id_: str) -> None:
    result = try_rule(RULES[id_], subject(RULES[id_]))
    assert result.outcome is Outcome.KEPT, result.detail


def test_no_rule_finds_nothing() -> None:
    found = {bug.rule for bug in BUGS} | {*CAUGHT_BY.values()} | {id_ for _, id_ in CAUGHT_TOO}
    assert RULES.keys() - found == SERVERS
