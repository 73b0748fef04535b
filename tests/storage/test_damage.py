"""Rule 5 with real engines: bytes that changed by themselves are detected or absent, never different."""

from __future__ import annotations

from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.storage.stores import child

#: Flips for each engine; each is an opening in a forked process.
TIMES = 40


def make(backend: str, directory: Path, *, killed: bool) -> None:
    """A store that was used twice, and the second time killed or closed."""
    with child("fill", backend, str(directory)) as writer:
        writer.until("filled")
        if killed:
            writer.kill()
        else:
            writer.tell("close")
            writer.until("closed")


def flip(backend: str, directory: Path, bug: str = "") -> list[str]:
    """What openings made of it, each time with another bit flipped."""
    with child("damage", backend, str(directory), backend, str(TIMES), bug) as openings:
        lines = openings.until("done")[:-1]
    assert lines[0] == "the same: 0 as it is"
    assert len(lines) == TIMES + 1
    return lines[1:]


@pytest.mark.parametrize("end", ["killed", "closed"])
def test_a_flipped_bit_is_never_served(durable_backend: str, end: str, tmp_path: Path) -> None:
    make(durable_backend, tmp_path, killed=end == "killed")
    lines = flip(durable_backend, tmp_path)
    print(durable_backend, end, dict(Counter(line.partition(":")[0] for line in lines)))
    assert not [line for line in lines if line.startswith(("different", "untyped"))]
    # Entries fill most of the files: damage that nobody notices would show that nobody looks.
    assert [line for line in lines if line.startswith("detected")]


def test_without_the_watermark_entries_would_be_missing(tmp_path: Path) -> None:
    """SQLite drops what follows a damaged frame of its log, and calls itself sound."""
    if not find_spec("sqlalchemy"):
        pytest.skip("sqlalchemy is not installed")
    make("sqlite", tmp_path, killed=True)
    lines = flip("sqlite", tmp_path, "no watermark")
    assert [line for line in lines if line.startswith("different")]
