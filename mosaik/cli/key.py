"""``mosaik key``: group keys."""

from __future__ import annotations

from pathlib import Path

import click

from mosaik.groups.key import GroupKey

__all__ = ["key"]


@click.group()
def key() -> None:
    """Group keys."""


@key.command()
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path))
def generate(path: Path) -> None:
    """Write a new group key to PATH, readable by you alone; copy it to every member."""
    GroupKey.generate().write_file(path)
    click.echo(f"{path}: a new group key; every member needs this file, and nobody else")
