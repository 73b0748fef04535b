"""The page *Write a storage backend*, taken apart: the files that it writes, and its commands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

__all__ = ["PAGE", "commands", "is_of_a_file", "files"]

PAGE: Final = Path(__file__).resolve().parent.parent.parent / "docs" / "storage-backends.md"
#: The line above a block that is part of a file.
_CAPTION: Final = r"^\*\*`([^`]+)`\*\*(?:, further)?$"
_FILE: Final = re.compile(_CAPTION + r"\n\n```\w+\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
_CONSOLE: Final = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def files(page: Path = PAGE) -> dict[str, str]:
    """What each file consists of, by its path: the blocks under its name, in their order."""
    parts: dict[str, list[str]] = {}
    for name, code in _FILE.findall(page.read_text()):
        parts.setdefault(name, []).append(code)
    return {name: "\n\n".join(blocks) + "\n" for name, blocks in parts.items()}


def commands() -> list[list[str]]:
    """The commands of each console block, in their order."""
    blocks: list[str] = _CONSOLE.findall(PAGE.read_text())
    return [[line.removeprefix("$ ") for line in block.splitlines()] for block in blocks]


def is_of_a_file(page: str, at: int) -> bool:
    """Whether the block that begins there on a page is part of a file, and not a program."""
    before = page[:at].rstrip().rpartition("\n")[2]
    return re.fullmatch(_CAPTION, before) is not None
