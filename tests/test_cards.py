"""The README's table of report cards says what the cards say."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.report import write
from mosaik.testing.storage import Card, Mark, Outcome, Result
from tests.cards import table


def card(claims: set[Mark], **outcomes: Outcome) -> Card:
    """One rule of each mark, kept unless an outcome is named."""
    results = [
        Result(f"{mark.name}-01", "…", mark, outcomes.get(mark.name, Outcome.KEPT), "why\nmore")
        for mark in Mark
    ]
    return Card("some://{place}", "some 1", frozenset(claims), results)


ALL = {Mark.KILL_SAFE, Mark.POWER_SAFE, Mark.CORRUPTION_DETECTING}


def rows(one: Card | str) -> list[str]:
    return table({"some": one}).splitlines()[2:]


def test_a_sound_store_is_a_row_and_nothing_more() -> None:
    assert rows(card(ALL)) == ["| `some`, some 1 | earned | earned | earned | earned | 4 of 4 |"]


def test_what_is_broken_stands_out_and_says_why() -> None:
    row, empty, note = rows(card(ALL, KILL_SAFE=Outcome.BROKEN))
    assert row == "| `some`, some 1 | earned | **broken** | earned | earned | 3 of 4 |"
    assert (empty, note) == ("", "- `some`, KILL_SAFE-01, broken: why")


def test_what_is_kept_by_accident_stands_out() -> None:
    claims = ALL - {Mark.POWER_SAFE}
    assert "| **by accident** |" in rows(card(claims))[0]


def test_what_is_not_claimed_needs_no_reason() -> None:
    outcomes = {mark.name: Outcome.BROKEN for mark in ALL}
    (row,) = rows(card(set(), **outcomes))
    assert row.count("not claimed") == 3


def test_what_does_not_apply_is_not_counted() -> None:
    (row,) = rows(card(ALL, KILL_SAFE=Outcome.NOT_APPLICABLE))
    assert row.endswith("| 3 of 3 |")


def test_what_could_not_be_tried_says_why() -> None:
    row, _, note = rows(card(ALL, POWER_SAFE=Outcome.NOT_ATTESTED))
    assert "| not attested |" in row
    assert note == "- `some`, POWER_SAFE-01, not attested: why"
    assert "not run | no server |" in rows("no server")[0]


def test_a_page_without_a_place_for_it_is_named(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x: begin -->old<!-- x: end -->\nb\n")
    write(page, "x", "new")
    assert page.read_text() == "a\n<!-- x: begin -->\n\nnew\n\n<!-- x: end -->\nb\n"
    with pytest.raises(SystemExit, match="y: begin"):
        write(page, "y", "new")
