"""Cases that others recorded, as kept with etcd's Raft: where they are, and how they are read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

import pytest

__all__ = ["Block", "blocks", "needed"]

ROOT = Path(__file__).resolve().parent.parent.parent.parent
ETCD: Final = (
    Path(os.environ.get("MOSAIK_SHARED_DATA", ROOT.parent / "shared" / "data")) / "etcd-raft"
)


class Block(NamedTuple):
    """One command of a data-driven file, and what etcd answered.

    Attributes:
        file: the file's name.
        line: where the command stands, from 1.
        command: its first line.
        given: its further lines.
        answer: the lines below the dashes.
    """

    file: str
    line: int
    command: str
    given: tuple[str, ...]
    answer: tuple[str, ...]

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"


def blocks(directory: str) -> list[Block]:
    """Every command of every file there, in order; none when the data is not on this machine."""
    return [block for path in sorted((ETCD / directory).glob("*.txt")) for block in _read(path)]


def _read(path: Path) -> list[Block]:
    lines = path.read_text().splitlines()
    found: list[Block] = []
    for at in (number for number, line in enumerate(lines) if line == "----"):
        begin = at
        while begin and lines[begin - 1].strip() and not lines[begin - 1].startswith("#"):
            begin -= 1
        end = at + 1
        while end < len(lines) and lines[end].strip():
            end += 1
        # A command or an answer that is not there would mean that the format is another one.
        assert begin < at < end - 1, f"{path.name}:{at + 1}"
        command, *given = lines[begin:at]
        found.append(Block(path.name, begin + 1, command, tuple(given), tuple(lines[at + 1 : end])))
    return found


def needed(directory: str) -> None:
    """Skips a test that would have no cases; fails where they have to be there."""
    if not (ETCD / directory).is_dir():
        assert "shared-data" not in os.environ.get("MOSAIK_REQUIRE", "").split(",")
        pytest.skip("the recorded cases are not on this machine; MOSAIK_SHARED_DATA names them")
