"""The core, documented by what it does: each transcript is run, and compared word by word."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.consensus.transcript import render

TRANSCRIPTS = sorted(Path(__file__).with_name("transcripts").glob("*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_it_goes_as_written(path: Path, pytestconfig: pytest.Config) -> None:
    written = path.read_text()
    happened = render(written)
    if pytestconfig.getoption("--rewrite-transcripts"):
        path.write_text(happened)
        return
    assert happened == written, "review the difference, then rewrite with --rewrite-transcripts"


def test_there_are_transcripts() -> None:
    assert len(TRANSCRIPTS) >= 10
