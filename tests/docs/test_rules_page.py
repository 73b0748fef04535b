"""The page of rules says what the rules say."""

from __future__ import annotations

from pathlib import Path

from mosaik.testing.storage import Mark, rules
from mosaik.testing.storage.page import page

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "storage-rules.md"


def test_the_page_is_made_from_the_rules() -> None:
    told = "run python -m mosaik.testing.storage.page > docs/storage-rules.md"
    assert PAGE.read_text() == page(), told


def test_each_rule_stands_on_it_under_its_mark() -> None:
    sections = PAGE.read_text().split("\n## ")[1:]
    for mark, section in zip(Mark, sections, strict=True):
        assert section.lower().startswith(mark)
        for each in rules(mark):
            assert f"| `{each.id}` | {each.sentence} |" in section
