"""``mosaik storage upgrade``: a closed store is brought to the format of this version."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mosaik.cli.node import load_config
from mosaik.cli.stored import data_dir_option, json_option
from mosaik.primitives.errors import ConfigError
from mosaik.storage.closed import opened_closed
from mosaik.storage.registry import storage_format

__all__ = ["upgrade"]


@click.command()
@click.argument("url", required=False)
@data_dir_option
@click.option(
    "--config", "path", type=click.Path(), help="Take the store of this file of settings."
)
@json_option
def upgrade(url: str | None, data_dir: Path | None, path: str | None, as_json: bool) -> None:
    """Bring the closed store at URL to the format of this version.

    A node does the same when it starts; this does it at a time of your choosing, and says what it did.
    It is done wholly or not at all, and not undone: an older mosaik refuses the store afterwards.
    """
    if url is None:
        url, data_dir = _configured(path, data_dir)
    elif path is not None:
        raise ConfigError("say either URL or --config, not both")
    before = storage_format(url, data_dir=data_dir)
    with opened_closed(url, data_dir=data_dir) as environment:
        where = environment.describe().url
    after = storage_format(url, data_dir=data_dir)
    if as_json:
        found = {"url": where, "from": before.found, "to": after.found}
        click.echo(json.dumps({**found, "upgraded": before.found != after.found}, indent=2))
    elif before.found == after.found:
        click.echo(f"{where}: format {after.found} is the newest")
    else:
        click.echo(f"{where}: format {before.found} is now {after.found}")


def _configured(path: str | None, data_dir: Path | None) -> tuple[str, Path | None]:
    config = load_config(path, {})
    if config.storage.url is None:
        raise ConfigError("name the store, or a file of settings whose [storage] url does")
    if data_dir is None and config.network.data_dir is not None:
        data_dir = Path(config.network.data_dir)
    return config.storage.url, data_dir
