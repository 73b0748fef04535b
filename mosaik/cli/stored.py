"""What the commands on closed stores share: how a store is named, and what it is measured in."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from mosaik.primitives.digest import short
from mosaik.primitives.errors import ConfigError
from mosaik.storage.contract import Capability, StorageEnvironment

__all__ = [
    "chosen",
    "confirm",
    "counted",
    "data_dir_option",
    "group_option",
    "human_size",
    "json_option",
    "require_durable",
    "unfinished",
]

F = TypeVar("F", bound=Callable[..., Any])

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


def data_dir_option(command: F) -> F:
    """Adds ``--data-dir``."""
    return click.option(
        "--data-dir",
        type=click.Path(file_okay=False, path_type=Path),
        help="The node's data directory, for a backend's bare name.",
    )(command)


def json_option(command: F) -> F:
    """Adds ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def group_option(command: F) -> F:
    """Adds ``--group``."""
    return click.option("--group", help="A group's id, or how it begins, in hex.")(command)


def chosen(groups: list[bytes], wanted: str | None) -> list[bytes]:
    """The groups that are meant: all, or the one whose id begins so.

    Raises:
        ConfigError: none does, or several do.
    """
    if wanted is None:
        return groups
    found = [group for group in groups if group.hex().startswith(wanted.lower())]
    if len(found) == 1:
        return found
    problem = "several groups of the store begin" if found else "no group of the store begins"
    held = ", ".join(short(group) for group in groups) or "none"
    raise ConfigError(f"{problem} with {wanted!r}; it holds {held}")


@contextmanager
def unfinished(url: str) -> Generator[None]:
    """While a store is being made: an end before the last batch says what was left behind."""
    try:
        yield
    except BaseException:
        click.echo(
            f"mosaik: the store at {url} is not finished: a node that is started on it takes no part in "
            f"its group. Remove it before the next attempt",
            err=True,
        )
        raise


def require_durable(environment: StorageEnvironment) -> None:
    """Refuses a destination that forgets.

    Raises:
        ConfigError: it does not survive this process.
    """
    described = environment.describe()
    if Capability.KILL_SAFE not in described.capabilities:
        raise ConfigError(
            f"{described.url} keeps nothing beyond this process; name a durable store"
        )


def confirm(lost: Sequence[str], word: str) -> None:
    """Says what will be lost, and goes on only if the word is typed.

    Raises:
        ConfigError: something else was.
    """
    for line in lost:
        click.echo(line, err=True)
    if click.prompt(f"Type {word} to go on", default="", show_default=False, err=True) != word:
        raise ConfigError("nothing was done")


def counted(count: int, noun: str) -> str:
    """``1 log``, ``2 logs``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def human_size(size: float) -> str:
    """A number of bytes for people."""
    unit = 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.0f} {_UNITS[unit]}" if not unit else f"{size:.1f} {_UNITS[unit]}"
