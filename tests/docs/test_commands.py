"""Every command that the documentation shows is one that there is, with the options that it has."""

from __future__ import annotations

import re
import shlex
from itertools import product
from pathlib import Path

import click
import pytest

from mosaik.cli.app import cli
from tests.docs.test_blocks import PAGES, name

#: In a console block, and between backticks within a line.
SHOWN = re.compile(
    r"(?:^\$ |`)(mosaik (?:log|node|storage|key|demo|simulate|recover)\b[^`\n]*)", re.MULTILINE
)


def require_commands(line: str) -> None:
    """`require_command` for each that a line stands for, as ``mosaik log inspect|dump URL`` does for two."""
    for words in product(*(word.split("|") for word in shlex.split(line)[1:])):
        require_command(line, list(words))


def require_command(line: str, words: list[str]) -> None:
    """Raises when the command line would be a usage error, or names a command that is not there."""
    command: click.Command = cli
    context = click.Context(cli, info_name="mosaik")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found is not None, f"there is no command {words[0]!r}"
        command, words = found, words[1:]
        context = click.Context(command, context, info_name=words[0] if words else "")
    parser = command.make_parser(context)
    parser.ignore_unknown_options = False
    _, left, _ = parser.parse_args([word for word in words if word not in {"...", "…"}])
    assert not left, f"{line}: nothing takes {left}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_and_their_options_exist(page: Path) -> None:
    for line in SHOWN.findall(page.read_text()):
        require_commands(line)


def test_there_are_commands_to_look_at() -> None:
    operations = next(page for page in PAGES if page.name == "operations.md")
    assert len(SHOWN.findall(operations.read_text())) > 20


@pytest.mark.parametrize(
    "line",
    [
        "mosaik log cpoy a b",
        "mosaik log verify --jsn",
        "mosaik log inspect a b c",
        "mosaik log dump|x",
    ],
)
def test_a_command_that_is_none_is_noticed(line: str) -> None:
    with pytest.raises((click.UsageError, AssertionError)):
        require_commands(line)
