"""``mosaik storage check``: the card of a backend, for people and for machines."""

from __future__ import annotations

import json

import pytest

from mosaik.cli.app import main
from mosaik.cli.check import template_of
from mosaik.primitives.errors import ConfigError


def test_a_card_says_which_marks_are_earned(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["storage", "check", "memory", "--only", "GROUP", "--only", "READ-06"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "memory://{place}/store · memory"
    assert lines[2].split() == [
        "functional",
        "not",
        "attested",
        "3",
        "kept,",
        *lines[2].split()[5:],
    ]
    assert lines[3].startswith("kill-safe             not claimed   2 broken")
    assert "broken: READ-06 · What was written late" in "\n".join(lines)
    assert "not asked" not in "\n".join(lines)


def test_a_card_can_be_read_by_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["storage", "check", "memory", "--only", "LOG-01", "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["passed"] is True
    assert card["verdicts"]["power-safe"] == "not attested"
    tried = [each for each in card["results"] if each["outcome"] != "not attested"]
    assert [(each["rule"], each["outcome"]) for each in tried] == [("LOG-01", "kept")]


def test_a_broken_promise_ends_with_status_one(capsys: pytest.CaptureFixture[str]) -> None:
    """A disk that is always full keeps no rule that appends."""
    url = "faulty+memory://{place}?fail_write_at=1"
    assert main(["storage", "check", url, "--only", "LOG-02"]) == 1
    out = capsys.readouterr().out
    assert "functional            broken" in out
    assert "broken: LOG-02 · Appended entries" in out


@pytest.mark.parametrize(
    ("url", "template"),
    [
        ("lmdb", "lmdb://{place}/store"),
        ("sqlite://{place}/raft.db?sync=os", "sqlite://{place}/raft.db?sync=os"),
        ("postgresql://host/db?store={name}", "postgresql://host/db?store={name}"),
    ],
)
def test_a_template_names_stores_that_nobody_has(url: str, template: str) -> None:
    assert template_of(url) == template


@pytest.mark.parametrize("url", ["sqlite:///var/lib/raft.db", "postgresql://host/db"])
def test_the_url_of_a_store_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"must not name one: write \{place\}"):
        template_of(url)


def test_a_password_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    url = "memory://me:se{cr@et@{name}.example"
    assert main(["storage", "check", url, "--only", "LOG-01"]) == 0
    assert "memory://me:***@{name}.example" in (out := capsys.readouterr().out)
    assert "et@" not in out
    with pytest.raises(ConfigError) as caught:
        template_of("postgresql://me:secret@host/db")
    assert "secret" not in str(caught.value)


def test_a_misspelt_rule_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["storage", "check", "memory", "--only", "LOX"]) == 1
    assert "there is no rule LOX; " in capsys.readouterr().err
