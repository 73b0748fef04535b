"""``mosaik demo``: the main job, for everybody to see."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import click
import msgspec

from mosaik.cli.node import run
from mosaik.cli.progress import open_progress
from mosaik.demo import Options, Record, library_records, line_records, run_demo
from mosaik.primitives.errors import ConfigError

__all__ = ["demo"]


@click.command()
@click.option(
    "--backend", default="sqlite", show_default=True, help="A backend's name or a storage URL."
)
@click.option(
    "--nodes", default=3, show_default=True, type=click.IntRange(1, 9), help="How many processes."
)
@click.option(
    "--kills",
    default=10,
    show_default=True,
    type=click.IntRange(0),
    help="How often the leader dies.",
)
@click.option(
    "--input",
    "source",
    type=click.File("r", errors="surrogateescape"),
    help="Replicate the lines of this file (- is standard input) instead of the standard library's files.",
)
@click.option(
    "--directory", type=click.Path(path_type=Path), help="Where the nodes live; kept afterwards."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def demo(
    backend: str,
    nodes: int,
    kills: int,
    source: TextIO | None,
    directory: Path | None,
    as_json: bool,
) -> None:
    """Replicate real data over real processes, and kill the leader again and again.

    Starts the nodes on this machine, each with its own store; joins them as an observer; replicates
    data without pause, kills whoever leads with SIGKILL and starts it again; at last starts all of
    them cold and compares. Ends with status 1 if anything that was acknowledged is lost.
    """
    records = read_records(source)
    options = Options(backend=backend, nodes=nodes, kills=kills, records=records)
    place = directory or Path(tempfile.mkdtemp(prefix="mosaik-demo-"))
    try:
        place.mkdir(parents=True, exist_ok=True)
        empty = not any(place.iterdir())
    except OSError as error:
        raise ConfigError(f"{place} cannot be the demo's directory: {error.strerror}") from error
    if not empty:
        raise ConfigError(f"{place} is not empty; the demo needs a directory of its own")
    try:
        with open_progress(kills) as progress:
            report = run(run_demo(options, place, progress))
    except BaseException:
        with suppress(OSError):
            place.rmdir()  # which works while nobody has written there
        raise
    for finding in report.findings:
        click.echo(finding, err=True)
    if directory is None and report.good:
        shutil.rmtree(place)
    else:
        click.echo(f"the nodes' files are in {place}", err=True)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(report)))
    else:
        click.echo(report.details())
        click.echo(report.line())
    if not report.good:
        sys.exit(1)


def read_records(source: TextIO | None) -> list[Record]:
    """The lines of the input, or the standard library."""
    return library_records() if source is None else line_records(source)
