"""The house rules that a program can check."""

from __future__ import annotations

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.run_parts import PARTS, files_of

ROOT = Path(__file__).resolve().parent.parent

#: A file is one concept; a longer one holds several.
MAX_LINES = 500
MAX_FUNCTION = 70

#: What is published speaks of mosaik alone, and has no loose ends.
FORBIDDEN = [
    r"/w[o]rk/",
    r"\bTOD[O]\b",
    r"\bFIXM[E]\b",
    r"\bXX[X]\b",
    r"raise NotImplementedErro[r]$",
    r"breakpoin[t]\(",
    r"DESIG[N]\.md|MEMBERSHI[P]\.md|SEE[D]\.md|FACT[S]\.md",
    r"\b[Ii]ssue [AB]\b",
    r"extra-inde[x]|index-ur[l]",
]


@cache
def tracked(*patterns: str) -> list[Path]:
    """Files of the repository, as git knows them; all there are where it is no repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        return sorted(path for pattern in patterns for path in ROOT.rglob(pattern))
    return [path for line in listed.stdout.splitlines() if (path := ROOT / line).is_file()]


def library() -> list[Path]:
    return [path for path in tracked("*.py") if path.is_relative_to(ROOT / "mosaik")]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", tracked("*.py"), ids=name)
def test_a_file_is_one_concept(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", library(), ids=name)
def test_functions_are_short(path: Path) -> None:
    source = path.read_text()
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            # What explains does not count: comments, blank lines, and strings that document.
            explains = {
                number
                for each in ast.walk(node)
                if isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant)
                for number in range(each.lineno, (each.end_lineno or each.lineno) + 1)
            }
            code = [
                number
                for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
                if number not in explains and lines[number - 1].strip(" ")[:1] not in {"", "#"}
            ]
            # A constructor may be long: it lists what a state is made of.
            limit = 100 if node.name == "__init__" else MAX_FUNCTION
            assert len(code) <= limit, f"{node.name} has {len(code)} lines"


@pytest.mark.parametrize("path", library(), ids=name)
def test_a_module_says_what_it_is_and_what_it_offers(path: Path) -> None:
    module = ast.parse(path.read_text())
    assert ast.get_docstring(module), "no docstring"
    names = {
        target.id
        for node in module.body
        for target in (
            node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        )
        if isinstance(target, ast.Name)
    }
    assert "__all__" in names


@pytest.mark.parametrize("path", tracked("*.py", "*.md", "*.toml", "Makefile"), ids=name)
def test_nothing_is_left_lying_about(path: Path) -> None:
    text = path.read_text()
    for pattern in FORBIDDEN:
        assert not re.search(pattern, text), pattern


@pytest.mark.parametrize("path", library(), ids=name)
def test_the_library_sleeps_only_for_a_reason(path: Path) -> None:
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines, 1):
        if re.search(r"\btime\.sleep\(", line):
            nearby = "".join(lines[number - 2 : number + 2])
            assert "#" in nearby, f"line {number}: await an event, or say why there is none"


def test_every_test_belongs_to_one_part() -> None:
    owners: dict[Path, list[str]] = {
        path: [] for path in tracked("tests/**/test_*.py", "tests/test_*.py")
    }
    for part in PARTS:
        for place in files_of(part):
            for path in owners:
                if path == place or path.is_relative_to(place):
                    owners[path].append(part.name)
    assert not {name(path): parts for path, parts in owners.items() if len(parts) != 1}


def test_every_doc_is_reached_from_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    missing = [
        path.name
        for path in tracked("docs/*.md")
        if path.name not in index and path.name != "index.md"
    ]
    assert not missing
