"""Tables for a terminal of 80 columns, and for whatever reads them through a pipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import wrap
from typing import Final

__all__ = ["field_lines", "printable", "table_lines"]

_WIDTH: Final = 80


def table_lines(rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines with the cells of each row below those of the row before. The first row is the head."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in texts
    ]


def field_lines(fields: Iterable[tuple[str, object]], *, indent: int = 2) -> list[str]:
    """Lines with a name and a value each; a value that is too long for one goes on below itself."""
    shown = [(name, str(value)) for name, value in fields]
    width = max((len(name) for name, _ in shown), default=0)
    lines: list[str] = []
    for name, value in shown:
        parts = wrap(
            value, _WIDTH - indent - width - 2, break_long_words=False, break_on_hyphens=False
        )
        for number, part in enumerate(parts or [""]):
            lines.append(f"{'':{indent}}{'' if number else name:<{width}}  {part}".rstrip())
    return lines


def printable(text: str) -> str:
    """The text without anything that a terminal would obey: what a log holds, others have written."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )
