"""The page on the simulator says what the simulator does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mosaik.testing.simulation import Property
from tests.simulation import page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "simulation.md"


@pytest.mark.parametrize("table", [page.bugs, page.faults])
def test_a_table_is_made_from_the_code(table: Callable[[], Iterator[str]]) -> None:
    told = "run python -m tests.simulation.page and put its tables in"
    assert "\n".join(table()) in PAGE.read_text(), told


def test_every_rule_is_named() -> None:
    text = " ".join(PAGE.read_text().split())
    assert [rule.value for rule in Property if rule.value not in text] == []
