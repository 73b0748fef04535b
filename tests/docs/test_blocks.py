"""Every Python block of the documentation runs, in the order of its page, in an empty directory."""

from __future__ import annotations

import ast
import asyncio
import re
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from sybil import Document, Example
from sybil.parsers.markdown import CodeBlockParser

from tests.docs.backend_page import is_of_a_file

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
#: Its programs are run as programs, see `test_readme`.
PROGRAMS = ROOT / "README.md"
#: Every fence says what it holds; these are not Python and are not run.
NOT_RUN = {"text", "console", "toml", "mermaid", "bash"}
FENCE = re.compile(r"^ {0,3}```(.*)$", re.MULTILINE)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)


def name(path: Path) -> str:
    return path.name


def blocks(page: Path) -> list[Example]:
    document = Document.parse(
        str(page), CodeBlockParser(language="python", evaluator=lambda _: None)
    )
    # Parts of files are no programs; `test_backend_page` sees to them.
    return [block for block in document if not is_of_a_file(document.text, block.start)]


@pytest.fixture
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page != PROGRAMS and blocks(page)], ids=name
)
def test_the_blocks_of_a_page_run(page: Path, empty_directory: Path) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    with asyncio.Runner() as runner:
        for block in blocks(page):
            # Blank lines put its lines where they stand on the page, for the traceback.
            source = "\n" * block.line + str(block.parsed)
            code = compile(source, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            if code.co_flags & 0x80:  # a coroutine: the block awaits at its top level
                runner.run(_run(code, namespace))
            else:
                exec(code, namespace)


async def _run(code: CodeType, namespace: dict[str, Any]) -> None:
    await eval(code, namespace)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_fence_says_what_it_holds(page: Path) -> None:
    opening = FENCE.findall(page.read_text())[::2]
    assert not [language for language in opening if language not in NOT_RUN | {"python"}]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    broken: list[str] = []
    for link in LINK.findall(page.read_text()):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        target, _, anchor = link.partition("#")
        other = (page.parent / target).resolve() if target else page
        if not other.exists() or (anchor and anchor not in anchors(other)):
            broken.append(link)
    assert not broken


def anchors(page: Path) -> set[str]:
    """The anchors that headings get."""
    headings = HEADING.findall(page.read_text())
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}
