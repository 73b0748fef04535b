"""``mosaik log``: the logs in the store of a node that is stopped."""

from __future__ import annotations

from pathlib import Path

import click

from mosaik.cli.node import group_parts, load_config
from mosaik.groups import ConsensusConfig
from mosaik.groups.config import GroupConfig
from mosaik.primitives.digest import short
from mosaik.primitives.errors import ConfigError
from mosaik.storage import LogIdentity, open_storage
from mosaik.storage.rebind import rebind as rebind_log
from mosaik.transport.identity import Identity

__all__ = ["log"]


@click.group()
def log() -> None:
    """The logs of a stopped node."""


@log.command()
@click.option("--config", "path", type=click.Path(), help="The file of settings [./mosaik.toml].")
def rebind(path: str | None) -> None:
    """Carry the group's log over to the parameters that the settings have now.

    Changed parameters make another group. Stop every node, change its settings, run this, and only then
    start them again: a node where it was not done does not find the others.
    """
    config = load_config(path, {})
    if config.network.data_dir is None or config.storage.url is None:
        raise ConfigError("the settings must name [network] data_dir and [storage] url")
    key, machine = group_parts(config)
    consensus = ConsensusConfig.from_mapping(config.consensus.settings())
    group = GroupConfig(key, consensus, machine.signature())
    identity = Identity.in_directory(Path(config.network.data_dir))
    try:
        environment = open_storage(
            config.storage.url, peer=identity.peer, data_dir=identity.data_dir
        )
        try:
            wanted = LogIdentity(
                group=group.group_id, peer=identity.peer, key=key.fingerprint, parts=group.parts
            )
            before = rebind_log(environment, wanted)
        finally:
            environment.close()
    finally:
        identity.close()
    if before.group == wanted.group:
        click.echo(f"group {short(wanted.group)}: its log has these parameters already")
        return
    click.echo(f"group {short(before.group)} is now {short(wanted.group)}")
    for part, value in wanted.parts.items():
        if before.parts.get(part) != value:
            click.echo(f"  {part}: {before.parts.get(part, 'not set')} -> {value}")
