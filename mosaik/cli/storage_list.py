"""``mosaik storage list``: which backends there are."""

from __future__ import annotations

import json

import click
import msgspec

from mosaik.cli.table import table_lines
from mosaik.storage import list_backends

__all__ = ["list_"]


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(as_json: bool) -> None:
    """Show every backend that is registered, whether it imports, and what it survives."""
    backends = list_backends()
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(backends), indent=2))
        return
    rows = [("SCHEME", "DISTRIBUTION", "VERSION", "IMPORTS", "SURVIVES")]
    for each in backends:
        imports = "yes" if each.importable else "no"
        survives = "wraps another" if each.wraps else ", ".join(each.survives) or "nothing"
        rows.append((each.scheme, each.distribution, each.version, imports, survives))
    click.echo("\n".join(table_lines(rows)))
    for each in backends:
        if each.problem:
            click.echo(f"{each.scheme}: {each.problem}")
