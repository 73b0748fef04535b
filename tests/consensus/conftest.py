"""Options and the report of the consensus tests."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-transcripts",
        action="store_true",
        help="write what happens now into the transcripts of the consensus core",
    )


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Says what the simulated seeds reached, wherever they ran."""
    seeds, steps = 0, 0
    counts: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == "simulation":
                    seeds, steps = seeds + value[0], steps + value[1]
                    counts.update(value[2])
    if seeds:
        terminalreporter.section("consensus simulation")
        means = ", ".join(f"{name} {n / seeds:.2f}" for name, n in sorted(counts.items()))
        terminalreporter.line(f"{seeds} seeds, {steps} steps; means per seed: {means}")
