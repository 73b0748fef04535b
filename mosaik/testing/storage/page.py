"""The documentation's page of rules: ``python -m mosaik.testing.storage.page > docs/storage-rules.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from mosaik.testing.storage.rule import Mark, rules

__all__ = ["page"]

_HEAD = """\
# The rules of a store

What a store owes, rule by rule, as the conformance kit tries them. `mosaik storage check` tries all of
them on one backend and prints its report card; `StorageConformance` makes a pytest test of each. A backend
earns a mark when every rule of it is kept. [Storage](storage.md) says what the rules are for.

This page is made from the rules themselves:
`python -m mosaik.testing.storage.page > docs/storage-rules.md`.
"""

_MARKS = {
    Mark.FUNCTIONAL: "Owed by every store, one in memory, too.",
    Mark.KILL_SAFE: "What was acknowledged outlives the process, and the store knows whose it is.",
    Mark.POWER_SAFE: "What was acknowledged outlives the machine. Tried by tracing system calls, and by "
    "making the disks that a power failure may leave; not attested where there is no `strace`.",
    Mark.CORRUPTION_DETECTING: "What was acknowledged is read as it was written, or not at all.",
}


def page() -> str:
    """The page, as Markdown."""
    return "\n".join(_lines()).rstrip("\n") + "\n"


def _lines() -> Iterator[str]:
    yield _HEAD
    for mark in Mark:
        yield f"## {mark.capitalize()}\n"
        yield f"{_MARKS[mark]}\n"
        yield "| rule | what the store owes |"
        yield "|---|---|"
        for each in rules(mark):
            yield f"| `{each.id}` | {each.sentence.replace('|', '&#124;')} |"
        yield ""


if __name__ == "__main__":
    sys.stdout.write(page())
