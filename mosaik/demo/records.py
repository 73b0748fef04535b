"""What the demo replicates: every file of the standard library, or each line of a text."""

from __future__ import annotations

import hashlib
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from mosaik.primitives.errors import ConfigError

__all__ = ["Record", "generations", "library_records", "line_records"]

#: One line may be this long, and a text this many lines, before it is refused. Characters; count.
_MAX_LINE: Final = 1024 * 1024
_MAX_LINES: Final = 1_000_000


class Record(NamedTuple):
    """One command's worth of data. The key names it for good: no other command has the same one."""

    key: str
    value: str


def library_records() -> list[Record]:
    """Path, size and SHA-256 of every file of this interpreter's standard library. Blocks."""
    root = Path(sysconfig.get_path("stdlib"))
    records: list[Record] = []
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        # Installed packages are not the standard library, and caches change under our hands.
        if "site-packages" in parts or "__pycache__" in parts or not path.is_file():
            continue
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        records.append(Record("/".join(parts), f"{len(content)} {digest}"))
    return records


def line_records(lines: Iterable[str]) -> list[Record]:
    """Each line under its number.

    Raises:
        ConfigError: there are none, too many, or one is too long.
    """
    records: list[Record] = []
    for number, line in enumerate(lines, 1):
        if len(line) > _MAX_LINE or number > _MAX_LINES:
            raise ConfigError(
                f"line {number} is too much: at most {_MAX_LINES} lines of {_MAX_LINE} characters"
            )
        # A lone surrogate, from bytes that are no UTF-8, has no encoding of its own.
        text = line.rstrip("\n").encode("utf-8", "backslashreplace").decode("utf-8")
        records.append(Record(f"{number}", text))
    if not records:
        raise ConfigError("the input has no lines; there is nothing to replicate")
    return records


def generations(records: Sequence[Record]) -> Iterator[list[Record]]:
    """The same records again and again, each time under new keys."""
    generation = 0
    while True:
        generation += 1
        yield [Record(f"{generation}/{record.key}", record.value) for record in records]
