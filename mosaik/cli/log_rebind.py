"""``mosaik log rebind``: the cure when a group's parameters were changed on purpose."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any, Final

import click

from mosaik.cli.node import group_parts, load_config
from mosaik.groups import ConsensusConfig
from mosaik.groups.config import GroupConfig
from mosaik.machines.machine import StateMachine
from mosaik.primitives.codec import Codec
from mosaik.primitives.digest import short
from mosaik.primitives.entry import EntryKind
from mosaik.primitives.errors import CodecError, ConfigError
from mosaik.primitives.session import SessionOp, unwrap
from mosaik.storage import LogIdentity, StorageEnvironment, open_storage
from mosaik.storage.rebind import rebind as rebind_log
from mosaik.transport.identity import Identity

__all__ = ["rebind"]

#: So many of a log's newest entries are shown to a machine that is to take it over.
_LOOKED_AT: Final = 1000


@click.command()
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
        url, directory = config.storage.url, identity.data_dir
        wanted = LogIdentity(
            group=group.group_id, peer=identity.peer, key=key.fingerprint, parts=group.parts
        )
        # Closed in between: a log that was opened to be read cannot be moved.
        with closing(open_storage(url, peer=identity.peer, data_dir=directory)) as environment:
            _require_successor(environment, wanted, machine)
        environment = open_storage(url, peer=identity.peer, data_dir=directory)
        try:
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


def _require_successor(
    environment: StorageEnvironment, wanted: LogIdentity, machine: StateMachine[Any, Any, Any]
) -> None:
    """Refuses to give a log to a machine that does not know its commands: none could be applied.

    Raises:
        ConfigError: one of the log's last commands is not the machine's.
    """
    held = next((each for each in environment.logs() if each.key == wanted.key), None)
    if held is None or held.parts.get("machine") == wanted.parts.get("machine"):
        return
    decode = Codec[Any](machine.command_type).decode
    log = environment.log(held)
    start, end = log.available()
    for entry in log.get_range(max(start + 1, end - _LOOKED_AT + 1), end):
        if entry.kind is not EntryKind.COMMAND:
            continue
        try:
            header, command = unwrap(entry.payload)
            if header is None or header.op is SessionOp.COMMAND:
                decode(command)
        except CodecError as error:
            raise ConfigError(
                f"the log cannot be carried over: entry {entry.index} is not a command that "
                f"{type(machine).__name__} knows ({error}); another group needs another key"
            ) from error
