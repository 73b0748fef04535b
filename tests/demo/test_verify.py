"""The demo's last word: each way to lose a command is seen."""

from __future__ import annotations

from typing import Any

import pytest

from mosaik.demo.load import Ledger
from mosaik.demo.records import Record, generations, library_records, line_records
from mosaik.demo.run import store_of_each_node
from mosaik.demo.verify import Findings, check_answers, check_log, check_logs_equal, check_state
from mosaik.machines import Map
from mosaik.primitives.codec import Codec
from mosaik.primitives.entry import Entry, EntryKind, seal, unseal
from mosaik.primitives.errors import ConfigError

Log = list[Entry[Any]]
codec: Codec[Any] = Codec(Map(str, str).command_type)


def make_log(*commands: tuple[str, str]) -> Log:
    log: Log = []
    payloads = [
        (EntryKind.NOOP, b""),
        *((EntryKind.COMMAND, codec.encode(Map.Insert(*c))) for c in commands),
    ]
    for index, (kind, payload) in enumerate(payloads, 1):
        entry = seal(kind, index, 1, 0, payload, log[-1].checksum if log else 0)
        log.append(unseal(entry.sealed, decode=codec.decode))
    return log


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger()
    ledger.sent = {"a": "1", "b": "2", "c": "3"}
    ledger.acknowledged = {"a": 2, "b": 3}
    ledger.unknown = {"c"}
    return ledger


GOOD = (("a", "1"), ("b", "2"))


@pytest.mark.parametrize("commands", [GOOD, (*GOOD, ("c", "3"))], ids=["not done", "done"])
def test_an_unknown_command_may_be_there_or_not(ledger: Ledger, commands: tuple[Any, ...]) -> None:
    findings = Findings()
    check_state(findings, "n", dict(commands), ledger)
    check_log(findings, "n", make_log(*commands), ledger)
    check_logs_equal(findings, ["n", "m"], [make_log(*commands), make_log(*commands)])
    assert (findings.messages, findings.lost) == ([], set())


WRONG_STATES: list[tuple[dict[str, str], set[str], str]] = [
    ({"a": "1"}, {"b"}, "1 acknowledged commands missing or changed: b"),
    ({"a": "1", "b": "x"}, {"b"}, "1 acknowledged commands missing or changed: b"),
    ({"a": "1", "b": "2", "z": "0"}, set(), "1 values that nobody sent: z"),
    ({"a": "1", "b": "2", "c": "x"}, set(), "1 changed values: c"),
]


@pytest.mark.parametrize(("state", "lost", "message"), WRONG_STATES)
def test_a_state_that_is_wrong(
    ledger: Ledger, state: dict[str, str], lost: set[str], message: str
) -> None:
    findings = Findings()
    check_state(findings, "n", state, ledger)
    assert findings.lost == lost
    assert message in findings.messages[0]


def test_a_command_that_was_applied_twice(ledger: Ledger) -> None:
    findings = Findings()
    check_answers(findings, ledger)
    assert findings.messages == []
    ledger.twice = ["a"]
    check_answers(findings, ledger)
    assert (findings.lost, findings.messages) == (
        {"a"},
        ["answers: 1 commands that were applied twice: a"],
    )


WRONG_LOGS: list[tuple[tuple[tuple[str, str], ...], set[str], str]] = [
    ((("a", "1"),), {"b"}, "not there exactly once: b"),
    ((*GOOD, ("a", "1")), {"a"}, "not there exactly once: a"),
    ((("b", "2"), ("a", "1")), {"a", "b"}, "at another index: a, b"),
    ((*GOOD, ("c", "3"), ("c", "3")), set(), "unknown commands more than once: c"),
    ((*GOOD, ("z", "0")), set(), "commands that nobody sent: z"),
]


@pytest.mark.parametrize(("commands", "lost", "message"), WRONG_LOGS)
def test_a_log_that_is_wrong(
    ledger: Ledger, commands: tuple[Any, ...], lost: set[str], message: str
) -> None:
    findings = Findings()
    check_log(findings, "n", make_log(*commands), ledger)
    assert findings.lost >= lost
    assert any(message in each for each in findings.messages)


@pytest.mark.parametrize("other", [GOOD[:1], (("a", "1"), ("b", "x"))], ids=["shorter", "changed"])
def test_logs_that_differ(other: tuple[Any, ...]) -> None:
    findings = Findings()
    check_logs_equal(findings, ["n", "m"], [make_log(*GOOD), make_log(*other)])
    assert "the logs differ from entry 3 on" in findings.messages[0]


def test_a_key_is_never_sent_twice() -> None:
    source = generations([Record("x", "1"), Record("y", "2")])
    keys = [record.key for _ in range(3) for record in next(source)]
    assert len(set(keys)) == 6


def test_the_standard_library_is_real_data() -> None:
    records = {record.key: record.value for record in library_records()}
    assert len(records) > 500
    size, digest = records["asyncio/base_events.py"].split()
    assert int(size) > 10_000
    assert len(digest) == 64


def test_lines_are_kept_as_they_are() -> None:
    assert line_records(["one\n", "\udcff\n"]) == [("1", "one"), ("2", "\\udcff")]


@pytest.mark.parametrize("lines", [[], ["x" * (1024 * 1024 + 1)]], ids=["none", "too long"])
def test_lines_that_cannot_be_replicated(lines: list[str]) -> None:
    with pytest.raises(ConfigError):
        line_records(lines)


@pytest.mark.parametrize(
    ("backend", "each"),
    [
        ("lmdb", "lmdb"),
        ("sqlite:///var/raft.db", "sqlite:///var/raft-{node}.db"),
        ("lmdb:///var/raft?map_size=1GiB", "lmdb:///var/raft-{node}?map_size=1GiB"),
        ("rocksdb:///var/{node}/raft", "rocksdb:///var/{node}/raft"),
    ],
)
def test_every_node_gets_a_store_of_its_own(backend: str, each: str) -> None:
    assert store_of_each_node(backend) == each


def test_a_store_that_forgets_is_refused() -> None:
    with pytest.raises(ConfigError, match="survives"):
        store_of_each_node("memory://")
