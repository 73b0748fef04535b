"""The kit catches what it is there to catch: stores that break one rule each are found out by that rule."""

from __future__ import annotations

import os
import sys
from functools import cache
from importlib import invalidate_caches
from pathlib import Path

import pytest
from hypothesis import Phase, stateful
from hypothesis import settings as Settings

from mosaik.testing.storage import Mark, Outcome, Result, Subject, rules, trace, try_rule
from mosaik.testing.storage.rule import NotAttested
from mosaik.testing.storage.trace import needs_tracer

MUTANTS = Path(__file__).parent / "mutants"
SOUND = "journal"

#: Which rule is meant to catch which mutant.
CAUGHT_BY = {
    "accepts-gaps": "LOG-11",
    "acks-early": "POWER-01",
    "acks-full": "ERR-04",
    "admits-all": "IDENT-01",
    "buffers": "READ-06",
    "careless": "ERR-06",
    "cuts-last": "LOG-08",
    "cuts-suspects": "CORR-02",
    "denies-sharing": "BATCH-05",
    "dies-of-damage": "CORR-01",
    "dies-of-holes": "POWER-04",
    "falls-back": "CORR-03",
    "forgets-directory": "POWER-02",
    "forgets-vote": "KILL-01",
    "half-commits": "POWER-03",
    "holds-back": "READ-01",
    "keeps-no-mark": "CORR-01",
    "keeps-tails": "LOG-13",
    "mixes-groups": "KILL-01",
    "opens-slowly": "KILL-02",
    "rewrites-in-place": "POWER-03",
    "serves-unsynced": "KILL-03",
    "settles-regardless": "ERR-09",
    "shares-rows": "KILL-01",
    "splits-batches": "POWER-03",
    "swallows-errors": "ERR-01",
    "swallows-writes": "ERR-03",
    "syncs-as-it-lies": "ERR-02",
    "takes-second-votes": "HARD-03",
    "tries-again": "ERR-01",
    "truncates-lazily": "POWER-01",
    "unchecked": "CORR-01",
    "unpaged": "LOG-04",
}

#: Others that have to notice it as well.
CAUGHT_TOO = (
    ("half-commits", "BATCH-05"),
    ("cuts-last", "MODEL-01"),
    ("cuts-last", "LOG-07"),
    ("shares-rows", "MODEL-02"),
    ("forgets-vote", "MODEL-02"),
    ("mixes-groups", "GROUP-04"),
    ("swallows-writes", "ERR-05"),
    ("careless", "ERR-07"),
    ("buffers-unsynced", "KILL-05"),
)


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutants are a distribution with entry points, for this process and those that it starts."""
    monkeypatch.setattr(sys, "path", [str(MUTANTS), *sys.path])
    invalidate_caches()
    path = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(MUTANTS), *([path] if path else [])]))


@pytest.fixture(autouse=True)
def unshrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """That there is a sequence is enough; making it short takes a hundred times as long."""
    run = stateful.run_state_machine_as_test

    def first(machine: type[stateful.RuleBasedStateMachine], *, settings: Settings) -> None:
        run(machine, settings=Settings(settings, phases=[Phase.generate]))

    monkeypatch.setattr(stateful, "run_state_machine_as_test", first)


@cache
def subject(scheme: str) -> Subject:
    return Subject(f"{scheme}://{{place}}/store")


def tried(scheme: str, id_: str, seed: int = 0) -> Result:
    each = next(rule for rule in rules() if rule.id == id_)
    return try_rule(each, subject(scheme), seed=seed)


def requires(id_: str) -> None:
    """Skips what cannot be tried without a tracer."""
    if id_.startswith(("POWER", "BATCH-05", "ERR-0", "KILL-03")):
        try:
            needs_tracer()
        except NotAttested as why:
            pytest.skip(str(why))


@pytest.mark.parametrize(("mutant", "id_"), CAUGHT_BY.items(), ids=CAUGHT_BY)
def test_the_mutant_is_caught(mutant: str, id_: str) -> None:
    requires(id_)
    result = tried(f"{SOUND}-{mutant}", id_)
    print(result.detail)
    assert result.outcome is Outcome.BROKEN


@pytest.mark.parametrize(("mutant", "id_"), CAUGHT_TOO)
def test_other_rules_catch_it_too(mutant: str, id_: str) -> None:
    requires(id_)
    # What Hypothesis draws from a seed differs between its versions, and one draw may miss.
    seeds = range(5 if id_.startswith("MODEL") else 1)
    results = (tried(f"{SOUND}-{mutant}", id_, seed) for seed in seeds)
    assert any(result.outcome is Outcome.BROKEN for result in results)


@pytest.mark.parametrize("id_", sorted(set(CAUGHT_BY.values())))
def test_the_sound_store_is_not(id_: str) -> None:
    requires(id_)
    result = tried(SOUND, id_)
    assert result.outcome is Outcome.KEPT, result.detail


@pytest.mark.parametrize("id_", ["POWER-01", "POWER-03", "KILL-03", "ERR-02"])
def test_what_cannot_be_seen_is_not_attested(id_: str) -> None:
    requires("POWER")
    result = tried(f"{SOUND}-maps", id_)
    assert (result.outcome, "mapping" in result.detail) == (Outcome.NOT_ATTESTED, True), (
        result.detail
    )


def test_without_a_tracer_nothing_is_attested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "_missing", lambda: "strace is not installed")
    power = [rule for rule in rules(Mark.POWER_SAFE) if rule.id.startswith("POWER")]
    assert len(power) >= 4
    assert {try_rule(rule, subject(SOUND)).outcome for rule in power} == {Outcome.NOT_ATTESTED}
