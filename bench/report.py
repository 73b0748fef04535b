"""Where results stand in the README: between two marks, under a name."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["README", "write"]

README: Final = Path(__file__).resolve().parent.parent / "README.md"


def write(page: Path, name: str, text: str) -> None:
    """Puts a report between the page's two marks of this name."""
    begin_mark, end_mark = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, begin, rest = page.read_text().partition(begin_mark)
    _, end, after = rest.partition(end_mark)
    if not (begin and end):
        raise SystemExit(
            f"{page} has no place for the report: it lacks {begin_mark} and {end_mark}"
        )
    page.write_text(f"{before}{begin_mark}\n\n{text}\n\n{end_mark}{after}")
