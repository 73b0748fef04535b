"""The how-to for backends is the example, line by line; what it tells people to type is tried in the soak."""

from __future__ import annotations

import pytest

from tests.docs.backend_page import commands, files
from tests.storage.foreign import PACKAGE

FILES = files()


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def test_it_has_every_file_that_makes_the_package() -> None:
    made = {"README.md", "src/mosaik_storage_file/py.typed"}  # by its commands
    own = {"tests/test_engine.py"}  # what no other package needs
    held = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix in {".py", ".toml", ".md", ".typed"}
    }
    assert held == {*FILES, *made, *own}
    assert all(any(path in each for each in commands()[0]) for path in made)


@pytest.mark.parametrize("name", FILES)
def test_its_files_are_those_of_the_example(name: str) -> None:
    assert lines(FILES[name]) == lines((PACKAGE / name).read_text())
